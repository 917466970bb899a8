"""The product service on real PostgreSQL and Redis, with empty tables for each test."""

import base64
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flask import Flask

from chassis.keyset import remember_key_set
from chassis.migrations import migrate
from chassis.tokens import Identity, sign_access_token
from product_service import create_app
from product_service.config import Settings
from tests.apps import close_app
from tests.product.shop import ORDER_KEY, Shop, empty
from tests.servers import Database, PostgresServer, RedisServer

KID = "product-test-key"


@pytest.fixture(scope="session")
def signing_key() -> Ed25519PrivateKey:
    """Return the key that stands for the user service's."""
    return Ed25519PrivateKey.generate()


@pytest.fixture
def bearer(signing_key: Ed25519PrivateKey, redis_server: RedisServer) -> Callable[..., dict[str, str]]:
    """Return the headers of a signed-in caller."""
    # Keys are read anew each minute, and the tests of other services leave theirs in the same Redis.
    with redis.Redis(redis_server.host, redis_server.port, password=redis_server.password) as client:
        remember_key_set(client, _key_set(signing_key))

    def headers(role: str = "customer", user_id: int = 1) -> dict[str, str]:
        identity = Identity(user_id, uuid.uuid4().hex, role)
        return {"Authorization": "Bearer " + sign_access_token(identity, key=signing_key, kid=KID)}

    return headers


@pytest.fixture(scope="session")
def make_settings(redis_server: RedisServer) -> Callable[[Database], Settings]:
    """Make settings for a database."""

    def make(database: Database) -> Settings:
        return Settings(
            db_host=database.host,
            db_port=database.port,
            db_name=database.name,
            db_user=database.user,
            db_password=database.password,
            # One connection for every thread of the races.
            db_pool_size=60,
            redis_host=redis_server.host,
            redis_port=redis_server.port,
            redis_password=redis_server.password,
            # Nobody is there, so the keys come from their copy in Redis.
            user_service_url="http://127.0.0.1:9",
            order_product_key=ORDER_KEY,
        )

    return make


@pytest.fixture(scope="session")
def migrated_database(
    postgres_server: PostgresServer, make_settings: Callable[[Database], Settings]
) -> Database:
    """Return a database with every table and nothing in it."""
    database = postgres_server.make_database("product_migrated")
    migrate(create_app(make_settings(database)))
    return database


@pytest.fixture(scope="session")
def make_product_app(
    make_settings: Callable[[Database], Settings], signing_key: Ed25519PrivateKey
) -> Iterator[Callable[[Database], Flask]]:
    """Make an app on a migrated database; it knows the tests' signing key."""
    apps = []

    def make(database: Database) -> Flask:
        app = create_app(make_settings(database))
        remember_key_set(app.extensions["edge"].redis, _key_set(signing_key))
        apps.append(app)
        return app

    yield make
    for app in apps:
        close_app(app)


@pytest.fixture(scope="session")
def shared_app(migrated_database: Database, make_product_app: Callable[[Database], Flask]) -> Flask:
    """Make the app that most tests share."""
    return make_product_app(migrated_database)


@pytest.fixture
def app(shared_app: Flask) -> Flask:
    """Return the service with nothing in its database."""
    empty(shared_app)
    return shared_app


@pytest.fixture
def shop(app: Flask, bearer: Callable[..., dict[str, str]]) -> Shop:
    """Return the service as an administrator, a visitor and the order service see it."""
    return Shop(app, bearer("admin"))


def _key_set(key: Ed25519PrivateKey) -> dict[str, Any]:
    x = base64.urlsafe_b64encode(key.public_key().public_bytes_raw()).decode().rstrip("=")
    return {"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": KID, "alg": "EdDSA", "use": "sig", "x": x}]}
