"""The consumers' side: each handler takes the sample of its event, once, and minds no field that is new."""

import copy
import json
from threading import Thread
from uuid import uuid4

import pytest
from werkzeug.serving import make_server

from chassis.events import parse_cloudevent
from chassis.inbox import receive
from chassis.migrations import migrate
from tests.apps import SERVICES, close_app, make_app
from tests.contracts.event_schemas import EVENT_TYPES, examples

KEY = "k" * 32
HANDLED = {
    "product_service": {"order.paid", "order.cancelled"},
    "notification_service": set(EVENT_TYPES)
    - {"product.created", "product.updated", "order.completed"},
}  # fmt: skip


def make_service(package, postgres_server, **settings):
    """Build a service on a database of its own, whose migrations have run."""
    database = postgres_server.make_database(f"contracts_{package}")
    login = {"db_host": database.host, "db_port": database.port, "db_name": database.name}
    login |= {"db_user": database.user, "db_password": database.password, "redis_port": 1}
    app = make_app(package, **login, **settings)
    migrate(app)
    return app


@pytest.fixture(scope="module")
def user_service_url(postgres_server):
    """Serve the real user service, with its administrator, to those who ask it."""
    secrets = {"notification_user_key": KEY, "admin_password": "an administrator's"}
    app = make_service("user_service", postgres_server, **secrets)
    with app.app_context():
        app.extensions["prepare"]()
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module", params=HANDLED)
def app(request, postgres_server, user_service_url):
    """Build a service that consumes events."""
    key = {"notification_user_key": KEY} if request.param == "notification_service" else {}
    app = make_service(request.param, postgres_server, user_service_url=user_service_url, **key)
    with app.app_context():
        yield app
    close_app(app)


def handlers(app):
    """List a service's queues, event types and handlers, the user before what concerns them."""
    consumers = app.extensions["worker"].consumers
    table = [(consumer.queue, *pair) for consumer in consumers for pair in consumer.handlers.items()]
    return sorted(table, key=lambda row: (row[1] != "user.registered", row[1]))


def test_each_service_handles_the_events_that_the_page_says(app):
    [service] = [package for package in SERVICES if app.import_name.startswith(package)]
    assert {event_type for _, event_type, _ in handlers(app)} == HANDLED[service]


def test_a_queue_is_bound_to_the_events_that_its_handlers_take(app):
    for queue, event_type, _ in handlers(app):
        domain = queue.removesuffix(".events").rpartition(".")[2]
        assert event_type.startswith(f"{domain}.")


def test_every_handler_takes_the_sample_once_and_ignores_new_fields(app):
    session = app.extensions["edge"].db.session
    for queue, event_type, handler in handlers(app):
        for sample in examples(event_type):
            newer = copy.deepcopy(sample) | {"id": str(uuid4()), "sequence": sample["sequence"] + 100}
            newer["data"]["added_later"] = {"by": "a newer release"}
            newer["addedlater"] = "too"
            for document in (sample, newer):
                event = parse_cloudevent(json.dumps(document).encode())
                assert receive(session, queue, event, handler) is True
                assert receive(session, queue, event, handler) is False
