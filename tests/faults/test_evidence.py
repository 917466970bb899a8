"""The judges read the tables that the services really have, and books that may not lose a line."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from chassis.migrations import migrate
from tests.apps import SERVICES, make_app
from tests.faults.calls import Record
from tests.faults.cells import Cell
from tests.faults.evidence import Reader
from tests.faults.rules import Judges


class Book(BaseHTTPRequestHandler):
    """Answers as the bank, the mail sink and RabbitMQ's management."""

    answers: dict[str, object]

    def do_GET(self):
        """Answer with what was put there."""
        body = json.dumps(self.answers.get(self.path.partition("?")[0], [])).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        """Say nothing."""


@pytest.fixture(scope="module")
def databases(postgres_server):
    """Return the way to four databases with all tables and no rows."""
    ways = {}
    for package in SERVICES:
        name = package.removesuffix("_service")
        database = postgres_server.make_database(f"faults_{name}")
        place = {"db_host": database.host, "db_port": database.port, "db_name": database.name}
        migrate(make_app(package, **place, db_user=database.user, db_password=database.password))
        ways[name] = (
            f"host={database.host} port={database.port} dbname={database.name}"
            f" user={database.user} password={database.password}"
        )
    return ways


@pytest.fixture
def stage(databases):
    """Yield a stage whose books are empty; `answers` fills them."""
    handler = type("Book", (Book,), {"answers": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    env = {"RABBITMQ_DEFAULT_USER": "admin", "RABBITMQ_DEFAULT_PASS": "secret", "CURRENCY": "CNY"}
    yield SimpleNamespace(
        env=env,
        databases=databases,
        rabbitmq_url=url,
        bank_url=url,
        mail_sink_url=url,
        restarts=dict,
        answers=handler.answers,
    )
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_empty_shop_breaks_no_rule(stage):
    judges = Judges(stage, Record())
    verdicts = judges.check(Cell("nginx", "kill", 1.0, 2.0), patience=0)
    assert [verdict.detail for verdict in verdicts if not verdict.ok] == []
    assert [verdict.rule for verdict in verdicts] == [1, 2, 3, 4, 5, 6, 7]


def test_what_the_books_tell_is_read_once_and_in_order(stage):
    line = {"seq": 1, "kind": "capture", "payment_id": "p", "amount": "9.90", "currency": "CNY"}
    mail = {"seq": 1, "received_at": 1.0, "message_id": "m", "to": ["A@example.com"], "text": "hello"}
    stage.answers |= {"/lab/ledger": [line], "/lab/mails": [mail]}
    reader = Reader(stage)
    evidence = reader.look()
    assert [str(amount) for amount in evidence.captures()["p"]] == ["9.90"]
    assert [one.to for one in evidence.mails] == ["a@example.com"]
    stage.answers |= {"/lab/ledger": [line | {"seq": 3}], "/lab/mails": []}
    with pytest.raises(AssertionError, match="lost lines"):
        reader.look()
