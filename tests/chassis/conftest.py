"""A sample service on real servers, and tokens that its callers hold."""

import base64
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flask import Flask
from flask.testing import FlaskClient

from chassis.tokens import Identity, sign_access_token
from tests.apps import close_app
from tests.chassis.sample import Settings, make_sample
from tests.servers import Database, PostgresServer, RedisServer

KID = "test-key"


@pytest.fixture(scope="session")
def signing_key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture(scope="session")
def key_set(signing_key: Ed25519PrivateKey) -> dict[str, Any]:
    raw = signing_key.public_key().public_bytes_raw()
    x = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    return {"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": KID, "alg": "EdDSA", "use": "sig", "x": x}]}


@pytest.fixture
def sample_database(postgres_server: PostgresServer) -> Database:
    return postgres_server.make_database("sample")


@pytest.fixture
def settings(sample_database: Database, redis_server: RedisServer) -> Settings:
    return Settings(
        db_host=sample_database.host,
        db_port=sample_database.port,
        db_name=sample_database.name,
        db_user=sample_database.user,
        db_password=sample_database.password,
        redis_host=redis_server.host,
        redis_port=redis_server.port,
        redis_password=redis_server.password,
    )


@pytest.fixture
def pause() -> list[Callable[[], None]]:
    """What runs between the sample's two transactions; tests put a function in."""
    return []


@pytest.fixture
def app(settings: Settings, key_set: dict[str, Any], pause: list[Callable[[], None]]) -> Iterator[Flask]:
    app, _ = make_sample(
        settings, before_reply=lambda: [act() for act in pause] and None, fetch_keys=lambda: key_set
    )
    yield app
    close_app(app)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def bearer(signing_key: Ed25519PrivateKey) -> Callable[..., dict[str, str]]:
    """Return the headers of a signed-in caller."""

    def headers(user_id: int = 1, role: str = "customer", session_id: str | None = None) -> dict[str, str]:
        identity = Identity(user_id, session_id or uuid.uuid4().hex, role)
        return {"Authorization": "Bearer " + sign_access_token(identity, key=signing_key, kid=KID)}

    return headers
