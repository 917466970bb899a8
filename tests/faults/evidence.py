"""What the judges look at: the bank's ledger, the mail sink, and what stands in the suite's own tables.

Everything is read at one look, so that a rule is a function of the driver's record and of this.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

import psycopg2
import psycopg2.extras
import urllib3

HIDDEN = ("reserving", "abandoned")
# Which events a consumer has something to do for: the database of those who record them, and the types.
CONSUMERS: Mapping[str, tuple[str, frozenset[str]]] = {
    "user.events": (
        "user",
        frozenset(
            {"user.registered", "user.updated", "user.recovery.requested", "user.email.change.requested"}
        ),
    ),
    "product.events": ("product", frozenset({"product.stock.updated"})),
    "order.events": (
        "order",
        frozenset({"order.created", "order.paid", "order.shipped", "order.cancelled", "order.refunded"}),
    ),
    "product-service.order.events": ("order", frozenset({"order.paid", "order.cancelled"})),
}


class BookClosed(Exception):
    """A book can't be read just now."""


class Witness(Protocol):
    """What the judges need of the stage."""

    @property
    def env(self) -> Mapping[str, str]: ...
    @property
    def databases(self) -> Mapping[str, str]: ...
    @property
    def rabbitmq_url(self) -> str: ...
    @property
    def bank_url(self) -> str: ...
    @property
    def mail_sink_url(self) -> str: ...
    def restarts(self) -> Mapping[str, int]: ...


class OrderRow(NamedTuple):
    """An order and its lines: product id to pieces and price."""

    id: str
    user_id: int
    status: str
    total: Decimal
    remark: str | None
    paid: bool
    lines: Mapping[int, tuple[int, Decimal]]


class PaymentRow(NamedTuple):
    """A payment, as the order service has it."""

    id: str
    order_id: str
    status: str
    amount: Decimal
    late: bool


class RefundRow(NamedTuple):
    """A refund, as the order service has it."""

    id: str
    payment_id: str
    order_id: str
    amount: Decimal
    status: str
    reason: str


class MovementRow(NamedTuple):
    """A line of the stock's ledger."""

    product_id: int
    delta: int
    reason: str
    order_id: str | None


class EventRow(NamedTuple):
    """An event; `numbers` are (previous stock, stock, threshold) of one about stock."""

    sequence: int
    id: str
    type: str
    subject: str
    user_id: int | None = None
    numbers: tuple[int, int, int] | None = None


class NotificationRow(NamedTuple):
    """A notification that an event made."""

    id: str
    event_id: str
    channel: str
    recipient: str
    status: str


class UserRow(NamedTuple):
    """A user, or the notification service's copy of one."""

    user_id: int
    username: str
    email: str
    phone: str | None
    locale: str
    role: str
    active: bool


class Mail(NamedTuple):
    """A mail that the sink took."""

    received_at: float
    message_id: str
    to: str
    text: str


@dataclass
class Evidence:
    """One look at everything."""

    orders: dict[str, OrderRow] = field(default_factory=dict)
    payments: dict[str, PaymentRow] = field(default_factory=dict)
    refunds: list[RefundRow] = field(default_factory=list)
    ledger: Sequence[Mapping[str, Any]] = ()
    mails: Sequence[Mail] = ()
    stock: dict[int, int] = field(default_factory=dict)
    movements: list[MovementRow] = field(default_factory=list)
    reservations: dict[str, str] = field(default_factory=dict)
    reserved: dict[str, dict[int, int]] = field(default_factory=dict)
    # By the database that has them.
    events: dict[str, list[EventRow]] = field(default_factory=dict)
    # Consumer to how often it has noted each event.
    inbox: dict[str, Counter[str]] = field(default_factory=dict)
    notifications: list[NotificationRow] = field(default_factory=list)
    # The ids of those that somebody asked for, and no event.
    direct: set[str] = field(default_factory=set)
    users: dict[int, UserRow] = field(default_factory=dict)
    people: dict[int, tuple[UserRow, int]] = field(default_factory=dict)
    restarts: Mapping[str, int] = field(default_factory=dict)
    # Dead-letter queue to the number of its messages.
    dead: dict[str, int] = field(default_factory=dict)
    dead_ids: set[str] = field(default_factory=set)

    def captures(self) -> dict[str, list[Decimal]]:
        """Return what the bank took, by payment."""
        return self._amounts("capture")

    def given_back(self) -> dict[str, Decimal]:
        """Return what the bank gave back, by payment."""
        return {payment: sum(amounts, Decimal(0)) for payment, amounts in self._amounts("refund").items()}

    def _amounts(self, kind: str) -> dict[str, list[Decimal]]:
        found: dict[str, list[Decimal]] = defaultdict(list)
        for line in self.ledger:
            if line["kind"] == kind:
                found[line["payment_id"]].append(Decimal(line["amount"]))
        return found


class Reader:
    """Reads the books again and again; of those that only grow it reads what is new."""

    def __init__(self, stage: Witness) -> None:
        self._stage = stage
        self._http = urllib3.PoolManager(retries=False, timeout=20)
        self._ledger: list[dict[str, Any]] = []
        self._mails: list[Mail] = []

    def look(self) -> Evidence:
        """Read everything, the causes before their effects: what happens meanwhile is not missed then."""
        evidence = Evidence()
        self._read_users(evidence)
        self._read_orders(evidence)
        self._read_products(evidence)
        self._read_notifications(evidence)
        self._ledger += self._more("bank", self._stage.bank_url, "ledger", len(self._ledger))
        self._mails += [
            Mail(line["received_at"], line["message_id"], _address(line["to"]), line["text"])
            for line in self._more("mail sink", self._stage.mail_sink_url, "mails", len(self._mails))
        ]
        evidence.ledger, evidence.mails = list(self._ledger), list(self._mails)
        evidence.restarts = dict(self._stage.restarts())
        evidence.dead = self._count_dead()
        return evidence

    def _more(self, name: str, url: str, what: str, known: int) -> list[dict[str, Any]]:
        answer = self._http.request("GET", f"{url}/lab/{what}?after={known}")
        if answer.status != 200:
            raise BookClosed(f"The {name} answers {answer.status}.")
        lines: list[dict[str, Any]] = answer.json()
        assert [line["seq"] for line in lines] == list(range(known + 1, known + 1 + len(lines))), (
            f"the {name}'s book has lost lines"
        )
        return lines

    def _count_dead(self) -> dict[str, int]:
        env = self._stage.env
        login = f"{env['RABBITMQ_DEFAULT_USER']}:{env['RABBITMQ_DEFAULT_PASS']}"
        answer = self._http.request(
            "GET", f"{self._stage.rabbitmq_url}/api/queues", headers=urllib3.make_headers(basic_auth=login)
        )
        if answer.status != 200:
            raise BookClosed(f"RabbitMQ's management answers {answer.status}.")
        return {q["name"]: q.get("messages", 0) for q in answer.json() if q["name"].endswith(".dead")}

    def _read_orders(self, evidence: Evidence) -> None:
        with closing(self._connect("order")) as connection:
            lines: dict[str, dict[int, tuple[int, Decimal]]] = defaultdict(dict)
            for row in _rows(
                connection, "SELECT order_id::text, product_id, quantity, unit_price FROM order_items"
            ):
                lines[row[0]][row[1]] = (row[2], row[3])
            orders = """
                SELECT id::text, user_id, status, total_amount, remark, payment_time IS NOT NULL FROM orders
            """
            evidence.orders = {
                row[0]: OrderRow(*(*row, lines.get(row[0], {}))) for row in _rows(connection, orders)
            }
            payments = _rows(
                connection, "SELECT id::text, order_id::text, status, amount, late FROM payments"
            )
            evidence.payments = {row[0]: PaymentRow(*row) for row in payments}
            refunds = "SELECT id::text, payment_id::text, order_id::text, amount, status, reason FROM refunds"
            evidence.refunds = [RefundRow(*row) for row in _rows(connection, refunds)]
            evidence.events["order"] = [
                EventRow(*row)
                for row in _rows(
                    connection,
                    "SELECT sequence, id::text, type, subject, (data->>'user_id')::bigint FROM events",
                )
            ]

    def _read_products(self, evidence: Evidence) -> None:
        with closing(self._connect("product")) as connection:
            evidence.stock = dict(_rows(connection, "SELECT id, stock FROM products"))
            movements = "SELECT product_id, delta, reason, order_id::text FROM stock_movements ORDER BY id"
            evidence.movements = [MovementRow(*row) for row in _rows(connection, movements)]
            evidence.reservations = dict(_rows(connection, "SELECT order_id::text, status FROM reservations"))
            lines = "SELECT order_id::text, product_id, quantity FROM reserved_lines"
            for order_id, product_id, quantity in _rows(connection, lines):
                evidence.reserved.setdefault(order_id, {})[product_id] = quantity
            events = """
                SELECT sequence, id::text, type, subject, (data->>'previous_stock')::bigint,
                    (data->>'stock')::bigint, (data->>'low_stock_threshold')::bigint
                FROM events
            """
            evidence.events["product"] = [
                EventRow(*(*row[:4], None, row[4:] if row[2] == "product.stock.updated" else None))
                for row in _rows(connection, events)
            ]
            self._read_inbox(evidence, connection)

    def _read_users(self, evidence: Evidence) -> None:
        with closing(self._connect("user")) as connection:
            users = "SELECT id, username, email, phone, locale, role, active FROM users"
            evidence.users = {row[0]: UserRow(*row) for row in _rows(connection, users)}
            events = "SELECT sequence, id::text, type, subject, (data->>'user_id')::bigint FROM events"
            evidence.events["user"] = [EventRow(*row) for row in _rows(connection, events)]

    def _read_notifications(self, evidence: Evidence) -> None:
        with closing(self._connect("notification")) as connection:
            self._read_inbox(evidence, connection)
            notifications = """
                SELECT id::text, event_id::text, channel, recipient, status FROM notifications
            """
            rows = [NotificationRow(*row) for row in _rows(connection, notifications)]
            evidence.notifications = [row for row in rows if row.event_id is not None]
            evidence.direct = {row.id for row in rows if row.event_id is None}
            people = "SELECT user_id, username, email, phone, locale, role, active, sequence FROM people"
            evidence.people = {row[0]: (UserRow(*row[:-1]), row[-1]) for row in _rows(connection, people)}

    def _read_inbox(self, evidence: Evidence, connection: Any) -> None:
        for consumer, event_id in _rows(connection, "SELECT consumer, event_id::text FROM inbox"):
            evidence.inbox.setdefault(consumer, Counter())[event_id] += 1
        dead = _rows(connection, "SELECT message_id FROM inbox_failures WHERE dead")
        evidence.dead_ids |= {row[0] for row in dead}

    def _connect(self, name: str) -> Any:
        dsn = self._stage.databases[name]
        return psycopg2.connect(dsn, connect_timeout=5, options="-c statement_timeout=20000")


def _rows(connection: Any, statement: str) -> list[Any]:
    with connection, connection.cursor() as cursor:
        cursor.execute(statement)
        rows: list[Any] = cursor.fetchall()
        return rows


def _address(to: Any) -> str:
    return str(to[0] if isinstance(to, list) else to).lower()
