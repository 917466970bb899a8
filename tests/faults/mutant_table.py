"""The safeguards that are taken out, each with the blow that has to show it.

Why which blow catches what:

relay-confirm      The relay deletes an event from the outbox once it is written to the connection. What
                   RabbitMQ had not stored when it was killed is gone: no consumer ever notes it (rule 5).
stock-condition    The stock is taken without looking whether there is enough. The load orders more of the
                   last pieces than there are, so that a poll sees less than none (rule 4), whatever is hit.
inbox-row          Events have their effect without a note of it, so nothing would keep a second delivery
                   from having it again. Every handled event lacks its row (rule 5), whatever is hit.
idempotency-claim  Keys are forgotten. Nginx dies while the order service goes on: the orders in flight are
                   placed and nobody is told; asked again with the same key each is placed again (rule 1).
transaction-b      An order is confirmed whatever has become of its intent. The order service is paused
                   while reservations are on their way, its worker gives these intents up and their pieces
                   back, and the process that wakes up makes orders of them: they have no stock (rule 5).
                   A request's deadline of 5 s comes long before an intent is swept at 60 s; for the late
                   confirmation to be possible at all, intents are swept after 1 s here and the pause is
                   3.2 s, in the control as in the mutant.
unknown-is-failed  A payment without an answer is called failed. The bank has captured some of those before
                   it dropped the reply; the buyer pays again, and the bank captures again (rule 2).
expiry             No order is ever due. Some buyers never pay, so that orders wait for ever and the suite
                   never comes to rest, whatever is hit. No rule breaks: an order that waits is no wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """A text that occurs once in a file, and what stands there instead."""

    path: str
    old: str
    new: str


@dataclass(frozen=True)
class Strike:
    """A blow: what is hit, how, and for how many seconds."""

    component: str
    fault: str
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.component}, {self.fault}" + (f" {self.seconds:g} s" if self.seconds else "")


# In the place of a rule: the suite must not come to rest.
REST = 0


@dataclass(frozen=True)
class Mutant:
    """A safeguard to take out, the blow that shows it, and the rule (or the rest) that must break."""

    name: str
    safeguard: str
    strike: Strike
    rule: int
    changes: Sequence[Change]


# So that a process which sleeps for less than its request's deadline can be given up meanwhile.
EXPERIMENT = (
    Change(
        "order-service/order_service/services/abandoning.py",
        "STALLED = timedelta(seconds=60)",
        "STALLED = timedelta(seconds=1)",
    ),
)
# The sweep comes every 2 s.
LATE = Strike("order-service", "pause", 3.2)
FRONT = Strike("nginx", "kill")
BROKER = Strike("rabbitmq", "kill")

MUTANTS = (
    Mutant(
        "relay-confirm",
        "the relay's confirm",
        BROKER,
        5,
        (
            Change(
                "chassis/chassis/outbox.py",
                """\
            tag = self._publisher.publish(routing_key=row.type, message_id=str(row.id), body=body)
            self._in_flight[tag] = row
""",
                """\
            self._publisher.publish(routing_key=row.type, message_id=str(row.id), body=body)
            self._confirmed.append(row)
            self._send_next(subject)
""",
            ),
        ),
    ),
    Mutant(
        "stock-condition",
        "the conditional stock update, and the table's own check",
        FRONT,
        4,
        (
            Change(
                "product-service/product_service/services/reservations.py",
                "WHERE id = product_id AND status = 'active' AND stock >= quantity\n",
                "WHERE id = product_id AND status = 'active'\n",
            ),
            Change(
                "product-service/migrations/versions/0001_catalogue_and_stock.py",
                """\
        sa.CheckConstraint("stock >= 0", name=op.f("ck_products_stock_is_not_negative")),
""",
                "",
            ),
        ),
    ),
    Mutant(
        "inbox-row",
        "the inbox row",
        FRONT,
        5,
        (
            Change(
                "chassis/chassis/inbox.py",
                """\
        if here.execute(claim.returning(InboxEntry.event_id)).first() is None:
            return False
""",
                "",
            ),
        ),
    ),
    Mutant(
        "idempotency-claim",
        "the idempotency claim",
        FRONT,
        1,
        (
            Change(
                "chassis/chassis/api.py",
                """\
            identity.user_id,
            key,
""",
                """\
            identity.user_id,
            None,
""",
            ),
        ),
    ),
    Mutant(
        "transaction-b",
        "the condition of transaction B",
        LATE,
        5,
        (
            Change(
                "order-service/order_service/services/placing.py",
                """\
        if order is not None and order.status == "reserving":
            items =\
""",
                """\
        if order is not None:
            items =\
""",
            ),
            Change(
                "order-service/order_service/models/orders.py",
                """\
        if self.status != "reserving":
            raise IllegalMove(f"confirmed while {self.status}")
""",
                "",
            ),
        ),
    ),
    Mutant(
        "unknown-is-failed",
        '"unknown is not failed"',
        FRONT,
        2,
        (
            Change(
                "order-service/order_service/services/paying.py",
                """\
        log.warning("payment unknown", payment_id=str(payment.id), reason=str(error))
        return None
""",
                """\
        log.warning("payment unknown", payment_id=str(payment.id), reason=str(error))
        return Charge("failed")
""",
            ),
        ),
    ),
    Mutant(
        "expiry",
        "the expiry of unpaid orders",
        FRONT,
        REST,
        (
            Change(
                "order-service/order_service/services/expiry.py",
                "        taken = here.scalars(_due()).all()\n",
                "        taken = []\n",
            ),
        ),
    ),
)
