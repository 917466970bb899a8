"""The judges read the tables that the services really have, and books that may not lose a line."""

import json
import threading
from contextlib import closing
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import psycopg2
import pytest

from chassis.migrations import migrate
from tests.apps import SERVICES, make_app
from tests.faults.calls import Record
from tests.faults.cells import Cell
from tests.faults.evidence import MovementRow, OrderRow, PaymentRow, Reader, RefundRow
from tests.faults.rest import find_unrest
from tests.faults.rules import Judges

ORDER, PAYMENT, REFUND, EVENT, MAILED, DIRECT = (
    f"0000000{n}-0000-7000-8000-000000000000" for n in range(1, 7)
)
# Of one paid order, part of which was refunded, and of a mail beside its own; by the database that has them.
ROWS = {
    "order": (
        f"""
        INSERT INTO orders (id, user_id, status, total_amount, currency, requested, remark,
            created_at, updated_at, payment_time)
        VALUES ('{ORDER}', 7, 'paid', 19.80, 'CNY', '[]', 'key', now(), now(), now())
        """,
        f"""
        INSERT INTO order_items (order_id, product_id, position, sku, name, unit_price, quantity)
        VALUES ('{ORDER}', 3, 1, 'S', 'Thing', 9.90, 2)
        """,
        f"""
        INSERT INTO payments (id, order_id, method, status, amount, currency, refunded_amount,
            refunding_amount, checks, next_check_at, created_at, updated_at)
        VALUES ('{PAYMENT}', '{ORDER}', 'http', 'captured', 19.80, 'CNY', 0.01, 0, 0, now(), now(), now())
        """,
        f"""
        INSERT INTO refunds (id, payment_id, order_id, status, amount, reason, tries,
            next_try_at, created_at, updated_at)
        VALUES ('{REFUND}', '{PAYMENT}', '{ORDER}', 'done', 0.01, 'why', 0, now(), now(), now())
        """,
        f"""
        INSERT INTO events (id, type, subject, data)
        VALUES ('{EVENT}', 'order.paid', '{ORDER}', '{{"user_id": 7}}')
        """,
    ),
    "notification": tuple(
        f"""
        INSERT INTO notifications (id, channel, recipient, template, locale, subject, data, status, event_id)
        VALUES ('{id_}', 'email', 'a@example.com', 't', 'en', 's', '{{}}', 'sent', {event})
        """
        for id_, event in ((MAILED, f"'{EVENT}'"), (DIRECT, "NULL"))
    ),
    "product": (
        "INSERT INTO products (id, sku, name, price, stock) VALUES (3, 'S', 'Thing', 9.90, 98)",
        f"INSERT INTO reservations (order_id, status) VALUES ('{ORDER}', 'sold')",
        f"""
        INSERT INTO reserved_lines (order_id, product_id, quantity, sku, name, unit_price)
        VALUES ('{ORDER}', 3, 2, 'S', 'T', 9.90)
        """,
        f"""
        INSERT INTO stock_movements (product_id, delta, reason, order_id)
        VALUES (3, -2, 'order', '{ORDER}')
        """,
    ),
}
EMPTY = {
    "order": "TRUNCATE orders, events CASCADE",
    "notification": "TRUNCATE notifications CASCADE",
    "product": "TRUNCATE products, reservations CASCADE",
}


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


@pytest.fixture
def sold(databases):
    """Have one order in the tables, and none afterwards."""
    for name, statements in ROWS.items():
        run(databases[name], *statements)
    yield
    for name, statement in EMPTY.items():
        run(databases[name], statement)


def run(way, *statements):
    """Run statements in a database."""
    with closing(psycopg2.connect(way)) as connection, connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def test_an_empty_shop_breaks_no_rule(stage):
    judges = Judges(stage, Record(stock_polls=1))
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


@pytest.mark.usefixtures("sold")
def test_ids_are_read_as_text_and_numbers_as_what_they_are(stage):
    evidence = Reader(stage).look()
    # As Python takes 3 for Decimal(3), the types are looked at too.
    lines = {3: (2, Decimal("9.90"))}
    assert repr(evidence.orders) == repr(
        {ORDER: OrderRow(ORDER, 7, "paid", Decimal("19.80"), "key", True, lines)}
    )
    assert repr(evidence.payments) == repr(
        {PAYMENT: PaymentRow(PAYMENT, ORDER, "captured", Decimal("19.80"), False)}
    )
    assert repr(evidence.refunds) == repr([RefundRow(REFUND, PAYMENT, ORDER, Decimal("0.01"), "done", "why")])
    assert [(event.id, event.subject, event.user_id) for event in evidence.events["order"]] == [
        (EVENT, ORDER, 7)
    ]
    assert repr(evidence.stock) == repr({3: 98})
    assert repr(evidence.movements) == repr([MovementRow(3, -2, "order", ORDER)])
    assert (evidence.reservations, evidence.reserved) == ({ORDER: "sold"}, {ORDER: {3: 2}})
    assert [row.id for row in evidence.notifications] == [MAILED]
    assert evidence.direct == {DIRECT}


@pytest.mark.usefixtures("sold")
def test_no_suite_is_at_rest_that_has_yet_to_end_an_order(stage, databases):
    stage.env["RABBITMQ_MANAGEMENT_PORT"] = stage.rabbitmq_url.rpartition(":")[2]
    assert find_unrest(stage) == ""
    run(databases["order"], "UPDATE orders SET status = 'pending', payment_time = NULL, expires_at = now()")
    assert find_unrest(stage) == "1 unpaid orders of the order service"
    run(databases["order"], "UPDATE orders SET status = 'reserving', expires_at = NULL")
    assert find_unrest(stage) == "1 intents of the order service"
