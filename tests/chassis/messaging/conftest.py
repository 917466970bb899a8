"""The sample service on a real PostgreSQL and a real RabbitMQ whose queues are empty."""

import base64
import json
import logging
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest
from flask import Flask
from pydantic import SecretStr
from sqlalchemy.orm import Session

from chassis.broker import Link, Message, Publisher
from chassis.events import parse_cloudevent
from chassis.logs import configure_logs
from tests.chassis.messaging.sample import QUEUE, Proxy, Settings, db, make_app, make_tables
from tests.servers import Database, PostgresServer, RabbitMQServer


class Broker:
    """What tests do to and ask of the broker."""

    def __init__(self, server: RabbitMQServer, settings: Settings) -> None:
        self.server = server
        self.settings = settings
        self.admin = settings.model_copy(
            update={"amqp_user": server.user, "amqp_password": SecretStr(server.password)}
        )

    def manage(self, method: str, path: str, body: Any = None) -> None:
        """Call the management API."""
        login = base64.b64encode(f"{self.server.user}:{self.server.password}".encode()).decode()
        request = urllib.request.Request(
            f"{self.server.management_url}/api/{path}",
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Basic {login}", "Content-Type": "application/json"},
            method=method,
        )
        urllib.request.urlopen(request, timeout=10).close()

    def control(self, *arguments: str) -> None:
        """Call rabbitmqctl."""
        self.server.broker._control(*arguments)

    def empty(self) -> None:
        """Throw away what the tests' queues hold."""
        for queue in (QUEUE, f"{QUEUE}.dead", "order.events"):
            self.manage("DELETE", f"queues/%2F/{queue}/contents")

    def count(self, queue: str) -> int:
        """Count the messages that wait."""
        with closing(Link(self.admin, "count")) as link:
            return link.count(queue)

    def drain(self, queue: str, number: int, seconds: float = 20) -> list[Message]:
        """Take that many messages and what came with them."""
        taken: list[Message] = []
        with closing(Link(self.admin, "drain")) as link:
            link.consume(queue, 5000, taken.append)
            link.pump(seconds, lambda: len(taken) >= number)
            link.pump(0.2)
            for message in taken:
                link.ack(message)
        return taken

    def publish(self, body: bytes, routing_key: str = "order.paid", message_id: str = "") -> None:
        """Put one message into the queues, past every outbox."""
        with closing(Publisher(self.admin, "test")) as publisher:
            publisher.publish(routing_key=routing_key, message_id=message_id, body=body)
            assert publisher.pump(5)[0].error is None


@pytest.fixture
def database(postgres_server: PostgresServer) -> Database:
    return postgres_server.make_database("messaging")


@pytest.fixture
def settings(database: Database, rabbitmq_server: RabbitMQServer) -> Settings:
    return Settings(
        db_host=database.host,
        db_port=database.port,
        db_name=database.name,
        db_user=database.user,
        db_password=SecretStr(database.password),
        amqp_host=rabbitmq_server.host,
        amqp_port=rabbitmq_server.port,
        amqp_user="product_service",
        amqp_password=SecretStr(rabbitmq_server.service_password),
    )


@pytest.fixture
def stranded(settings: Settings) -> Flask:
    """The sample service while its database is away."""
    elsewhere = settings.model_copy(update={"db_port": 1})
    elsewhere.__dict__.pop("database_url", None)
    return make_app(elsewhere)


@pytest.fixture
def broker(rabbitmq_server: RabbitMQServer, settings: Settings) -> Broker:
    broker = Broker(rabbitmq_server, settings)
    broker.empty()
    return broker


@pytest.fixture
def app(settings: Settings) -> Iterator[Flask]:
    configure_logs(settings)
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    app = make_app(settings)
    make_tables(app)
    yield app
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def session(app: Flask) -> Iterator[Session]:
    """Yield a session of the test's own."""
    with app.app_context(), Session(db.engine, expire_on_commit=False, autoflush=False) as session:
        yield session


@pytest.fixture
def cut_off(settings: Settings) -> Iterator[Callable[[str], tuple[Settings, Proxy]]]:
    """Return a function that puts a proxy before the database (`db`) or the broker (`amqp`)."""
    with ExitStack() as proxies:

        def make(what: str) -> tuple[Settings, Proxy]:
            proxy = Proxy(getattr(settings, f"{what}_host"), getattr(settings, f"{what}_port"))
            proxies.callback(proxy.cut, refuse=True)
            # Made anew, because a copy would keep the database's URL that the original has worked out.
            fields = settings.model_dump() | {f"{what}_host": proxy.host, f"{what}_port": proxy.port}
            return Settings(**fields), proxy

        yield make


@contextmanager
def running(work: Callable[[threading.Event], None]) -> Iterator[threading.Event]:
    """Run a worker thread's work beside the test, again after every failure, as the worker does."""
    stop = threading.Event()
    failures: list[Exception] = []

    def keep_working() -> None:
        while not stop.is_set():
            try:
                work(stop)
            except Exception as error:  # noqa: BLE001, the worker's own loop does the same
                failures.append(error)
                stop.wait(0.1)

    thread = threading.Thread(target=keep_working)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive(), "the work did not stop"


def waits_for_lock() -> bool:
    """Tell whether any session of the database waits for another."""
    # On a connection of its own each time: a transaction sees one snapshot of the activity.
    with db.engine.connect() as connection:
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        return connection.exec_driver_sql(waiting).scalar_one() > 0


def wait_for(condition: Callable[[], Any], seconds: float = 20) -> None:
    """Wait until something is so."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.05)


def names(messages: list[Message]) -> dict[str, list[str]]:
    """Return the names that each subject's events carry, in the order of their first arrival."""
    found: dict[str, dict[str, None]] = {}
    for message in messages:
        event = parse_cloudevent(message.body)
        found.setdefault(event.subject, {})[event.data["name"]] = None
    return {subject: list(in_order) for subject, in_order in found.items()}
