"""The user service on real PostgreSQL and Redis, and people who use it."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event, text
from werkzeug.test import TestResponse

from chassis.cli import prepare
from chassis.migrations import migrate
from chassis.tokens import sign_service_token
from tests.apps import close_app
from tests.servers import Database, PostgresServer, RedisServer
from tests.user.people import PASSWORD, Person
from user_service import create_app
from user_service.config import Settings
from user_service.services.hashing import Hasher

ORDER_KEY, NOTIFICATION_KEY = "order-user-key-for-tests-0123456", "notification-user-key-for-tests-"


@pytest.fixture(scope="session")
def make_settings(postgres_server: PostgresServer, redis_server: RedisServer) -> Callable[[str], Settings]:
    """Make settings for a database of that name."""

    def make(name: str, **changes: Any) -> Settings:
        database: Database = postgres_server.database(name)
        values = {
            "db_host": database.host,
            "db_port": database.port,
            "db_name": database.name,
            "db_user": database.user,
            "db_password": database.password,
            "redis_host": redis_server.host,
            "redis_port": redis_server.port,
            "redis_password": redis_server.password,
            "key_encryption_secret": "only-for-tests",
            "order_user_key": ORDER_KEY,
            "notification_user_key": NOTIFICATION_KEY,
            "admin_username": "root",
            "admin_email": "root@example.com",
            "admin_password": PASSWORD,
        }
        return Settings(**(values | changes))

    return make


@pytest.fixture(scope="session")
def migrated_database(postgres_server: PostgresServer, make_settings: Callable[..., Settings]) -> str:
    """Return the name of a database with every table and nothing in it."""
    postgres_server.make_database("user_migrated")
    migrate(create_app(make_settings("user_migrated")))
    return "user_migrated"


@pytest.fixture(scope="session")
def make_user_app(
    postgres_server: PostgresServer, make_settings: Callable[..., Settings], migrated_database: str
) -> Iterator[Callable[..., Flask]]:
    """Make an app on a migrated database of its own, or on one that an earlier app has."""
    numbers, apps = itertools.count(), []

    def make(database: str | None = None, **changes: Any) -> Flask:
        if database is None:
            database = f"user_{next(numbers)}"
            postgres_server.make_database(database, template=migrated_database)
        app = create_app(make_settings(database, **changes))
        # The right cost takes a quarter of a second each time.
        tools = app.extensions["tools"]
        app.extensions["tools"] = dataclasses.replace(tools, hasher=Hasher(cost=4))
        apps.append(app)
        return app

    yield make
    for app in apps:
        close_app(app)


@pytest.fixture(scope="session")
def app(make_user_app: Callable[..., Flask]) -> Flask:
    app = make_user_app()
    prepare(app)
    return app


@pytest.fixture(autouse=True)
def _fresh_limits(app: Flask) -> None:
    """Forget what earlier tests counted: their users have the same ids in other databases."""
    redis = app.extensions["edge"].redis
    for key in redis.scan_iter("limit:*"):
        redis.delete(key)


@pytest.fixture
def anyone(app: Flask) -> Person:
    """Somebody who is not signed in."""
    return Person(app)


@pytest.fixture
def customer(anyone: Person) -> Person:
    """Somebody new who has signed in."""
    return anyone.register().sign_in()


@pytest.fixture
def admin(app: Flask) -> Person:
    """The administrator of the settings, signed in."""
    return Person(app, user={"username": "root"}).sign_in()


@pytest.fixture
def service() -> Callable[..., dict[str, str]]:
    """Return the headers of another service."""

    def headers(
        scope: str = "users.read",
        issuer: str = "notification-service",
        key: str = NOTIFICATION_KEY,
        audience: str = "user-service",
    ) -> dict[str, str]:
        token = sign_service_token(key, issuer=issuer, audience=audience, scope=scope)
        return {"Authorization": f"Bearer {token}"}

    return headers


@pytest.fixture
def issue(app: Flask, service: Callable[..., dict[str, str]]) -> Callable[..., TestResponse]:
    """Ask for a mail's token as the notification service does."""

    def issue(user_id: int, body: dict[str, str] | None = None) -> TestResponse:
        path = f"/internal/v1/users/{user_id}/email-token"
        return app.test_client().post(path, headers=service("tokens.issue"), json=body or {})

    return issue


@pytest.fixture
def execute(app: Flask) -> Callable[..., list[Any]]:
    """Run a statement of SQL and return its rows."""

    def execute(statement: str, **values: Any) -> list[Any]:
        with app.app_context():
            session = app.extensions["sqlalchemy"].session
            rows = session.execute(text(statement), values)
            found = list(rows.all()) if rows.returns_rows else []
            session.commit()
            return found

    return execute


@pytest.fixture
def statements(app: Flask) -> Iterator[list[str]]:
    """Collect the SQL statements that the app sends."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        sent.append(statement)

    with app.app_context():
        engine = app.extensions["sqlalchemy"].engine
    event.listen(engine, "before_cursor_execute", note)
    yield sent
    event.remove(engine, "before_cursor_execute", note)
