"""The product service on real PostgreSQL and Redis, each test with a database of its own."""

import base64
import itertools
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flask import Flask

from chassis.auth import Identity, remember_key_set, sign_access_token
from chassis.migrations import migrate
from product_service import create_app
from product_service.config import Settings
from tests.product.shop import ORDER_KEY, Shop
from tests.servers import Database, PostgresServer, RedisServer

KID = "product-test-key"


@pytest.fixture(scope="session")
def signing_key() -> Ed25519PrivateKey:
    """Return the key that stands for the user service's."""
    return Ed25519PrivateKey.generate()


@pytest.fixture
def bearer(signing_key: Ed25519PrivateKey) -> Callable[..., dict[str, str]]:
    """Return the headers of a signed-in caller."""

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


_numbers = itertools.count()


@pytest.fixture
def database(postgres_server: PostgresServer, migrated_database: Database) -> Database:
    """Return a migrated database that no other test has."""
    return postgres_server.make_database(f"product_{next(_numbers)}", template=migrated_database.name)


@pytest.fixture
def app(
    database: Database, make_settings: Callable[[Database], Settings], signing_key: Ed25519PrivateKey
) -> Iterator[Flask]:
    """Yield the service, which knows the tests' signing key."""
    app = create_app(make_settings(database))
    remember_key_set(app.extensions["edge"].redis, _key_set(signing_key))
    yield app
    with app.app_context():
        app.extensions["sqlalchemy"].engine.dispose()


@pytest.fixture
def shop(app: Flask, bearer: Callable[..., dict[str, str]]) -> Shop:
    """Return the service as an administrator, a visitor and the order service see it."""
    return Shop(app, bearer("admin"))


def _key_set(key: Ed25519PrivateKey) -> dict[str, Any]:
    x = base64.urlsafe_b64encode(key.public_key().public_bytes_raw()).decode().rstrip("=")
    return {"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": KID, "alg": "EdDSA", "use": "sig", "x": x}]}
