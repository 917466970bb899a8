"""The notification service on real servers, with stubs of those it talks to."""

import base64
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.orm import Session

from chassis.events import Envelope
from chassis.inbox import receive
from chassis.migrations import migrate
from chassis.tokens import Identity, sign_access_token
from notification_service import create_app
from notification_service.channels import deadline
from notification_service.config import Settings
from notification_service.models import Notification, db
from notification_service.services import send_notification
from tests.apps import close_app
from tests.contracts.event_schemas import examples
from tests.notification.stubs import USER_KEY, MailSink, PushService, UserService, serve
from tests.servers import Database, PostgresServer, RedisServer

KID = "test-key"
ORDER_KEY = "only-for-tests-order-notification-key"
BUYER = {
    "user_id": 42,
    "username": "小明",
    "email": "xiaoming@example.com",
    "phone": "+8613800138000",
    "locale": "zh-CN",
    "role": "customer",
    "active": True,
}


@pytest.fixture(scope="session")
def signing_key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture
def users(signing_key: Ed25519PrivateKey) -> UserService:
    x = base64.urlsafe_b64encode(signing_key.public_key().public_bytes_raw()).decode().rstrip("=")
    key = {"kty": "OKP", "crv": "Ed25519", "kid": KID, "alg": "EdDSA", "use": "sig", "x": x}
    return UserService({"keys": [key]}, {42: BUYER})


@pytest.fixture
def user_service_url(users: UserService) -> Iterator[str]:
    with serve(users.answer) as url:
        yield url


@pytest.fixture(scope="session")
def mail_server() -> Iterator[MailSink]:
    sink = MailSink()
    sink.start()
    yield sink
    sink.stop()


@pytest.fixture
def sink(mail_server: MailSink) -> MailSink:
    """Return the mail server with an empty mailbox; it takes everything."""
    mail_server.mails.clear()
    mail_server.refuse_recipient = mail_server.refuse_data = None
    mail_server.seconds_before = mail_server.seconds_after = 0.0
    return mail_server


@pytest.fixture
def push_service() -> PushService:
    return PushService()


@pytest.fixture
def push_url(push_service: PushService) -> Iterator[str]:
    with serve(push_service.answer) as url:
        yield url


@pytest.fixture(scope="session")
def database(postgres_server: PostgresServer) -> Database:
    """Migrate a database once; each test finds its tables empty."""
    database = postgres_server.make_database("notification")
    app = create_app(_settings(database))
    migrate(app)
    return database


def _settings(database: Database, **values: Any) -> Settings:
    return Settings(
        db_host=database.host,
        db_port=database.port,
        db_name=database.name,
        db_user=database.user,
        db_password=database.password,
        notification_user_key=USER_KEY,
        order_notification_key=ORDER_KEY,
        mail_from="测试商城 <shop@example.com>",
        **values,
    )


@pytest.fixture
def settings(
    database: Database,
    redis_server: RedisServer,
    mail_server: MailSink,
    user_service_url: str,
    tmp_path: Path,
) -> Settings:
    return _settings(
        database,
        redis_host=redis_server.host,
        redis_port=redis_server.port,
        redis_password=redis_server.password,
        user_service_url=user_service_url,
        public_url="https://shop.example.com",
        smtp_port=mail_server.port,
        sms_dir=tmp_path / "sms",
        push_allow_private=True,
        log_dir=tmp_path,
    )


@pytest.fixture
def app(settings: Settings) -> Iterator[Flask]:
    app = create_app(settings)
    with app.app_context():
        names = ", ".join(
            f'"{name}"' for name in db.inspect(db.engine).get_table_names() if name != "alembic_version"
        )
        with db.engine.begin() as connection:
            connection.execute(text(f"TRUNCATE {names} CASCADE"))
    yield app
    close_app(app)


@pytest.fixture
def session(app: Flask) -> Iterator[Session]:
    with app.app_context():
        yield db.session()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def bearer(signing_key: Ed25519PrivateKey) -> Callable[..., dict[str, str]]:
    """Return the headers of a signed-in caller."""

    def headers(user_id: int = 42, role: str = "customer") -> dict[str, str]:
        identity = Identity(user_id, uuid.uuid4().hex, role)
        return {"Authorization": "Bearer " + sign_access_token(identity, key=signing_key, kid=KID)}

    return headers


@pytest.fixture
def admin(bearer: Callable[..., dict[str, str]]) -> dict[str, str]:
    return bearer(1, "admin")


@pytest.fixture
def deliver(app: Flask) -> Callable[..., Envelope]:
    """Return what gives the service an event: the schema's own example, with some of its data changed."""
    queues = {c.queue.split(".")[0]: c for c in app.extensions["worker"].consumers}

    def give(event_type: str, event: Envelope | None = None, *, sequence: int = 1, **data: Any) -> Envelope:
        if event is None:
            example = examples(event_type)[0]
            fresh = {"id": str(uuid.uuid4()), "sequence": sequence, "data": {**example["data"], **data}}
            event = Envelope.model_validate({**example, **fresh})
        consumer = queues[event_type.split(".")[0]]
        with app.app_context():
            receive(db.session, consumer.queue, event, consumer.handlers[event_type])
        return event

    return give


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Let a test turn the clock of all deadlines; it stands still by itself."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(deadline, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


@pytest.fixture
def box(app: Flask) -> SimpleNamespace:
    """Return what tests do with notifications: list them, send those that are due."""

    def rows(**filters: Any) -> list[Notification]:
        with app.app_context():
            return list(
                db.session.scalars(db.select(Notification).filter_by(**filters).order_by(Notification.id))
            )

    def send(**filters: Any) -> None:
        for row in rows(**filters):
            with app.app_context():
                send_notification(db.session, row.id, app.extensions["tools"])

    def age(seconds: float) -> None:
        """Let notifications grow older."""
        shift = text(
            "UPDATE notifications SET next_attempt_at = next_attempt_at - :s * interval '1 second', "
            "claimed_at = claimed_at - :s * interval '1 second', "
            "dispatched_at = dispatched_at - :s * interval '1 second', "
            "give_up_at = give_up_at - :s * interval '1 second'"
        )
        with app.app_context(), db.engine.begin() as connection:
            connection.execute(shift, {"s": seconds})

    return SimpleNamespace(rows=rows, send=send, age=age)
