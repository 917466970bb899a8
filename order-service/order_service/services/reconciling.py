"""Whether the books agree: the product service's with the orders, those with payments and notifications.

Nothing is changed here. Everything is read in pages, so that no statement and no call of the job lasts long.
"""

import time
from collections import defaultdict
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from chassis.db import transaction
from chassis.status import WorkerStatus
from order_service.clients import Books
from order_service.services.desk import Desk
from order_service.services.pieces import Pieces, count_pieces
from order_service.services.refunds import ASKED_AGAIN

PRODUCTS_AT_ONCE = 500
ORDERS_AT_ONCE = 5000
EVENTS_AT_ONCE = 500
SETTLE_SECONDS = 5.0
FIRST_REST_SECONDS, REST_SECONDS = 60.0, 600.0
STATUS_NAME = "drift"
NO_LIMIT = 2**63 - 1
FIRST_ID = "00000000-0000-0000-0000-000000000000"

_A_MOMENT_AGO = text("SELECT now() - interval '2 seconds'")

_LAST_OF_PAGE = text("SELECT id FROM orders WHERE id > :after ORDER BY id OFFSET :skip LIMIT 1")

# `paying`: payments whose money came in time, `kept`: those of which something neither went back nor will.
_MONEY = text(
    """
    SELECT orders.id, orders.status, count(payments.id) FILTER (WHERE NOT late) AS paying,
           count(payments.id) FILTER (WHERE amount > refunded_amount + refunding_amount) AS kept
    FROM orders LEFT JOIN payments ON order_id = orders.id
        AND payments.status IN ('captured', 'refunding', 'partially_refunded', 'refunded')
    WHERE orders.id > :after AND (CAST(:last AS uuid) IS NULL OR orders.id <= :last)
    GROUP BY orders.id
    HAVING orders.status IN ('paid', 'shipped', 'completed')
            AND count(payments.id) FILTER (WHERE NOT late) = 0
        OR count(payments.id) FILTER (WHERE amount > refunded_amount + refunding_amount)
            > CASE WHEN orders.status = 'cancelled' THEN 0 ELSE 1 END
    ORDER BY orders.id
    """
)

_ANOMALIES = text("SELECT * FROM payment_anomalies ORDER BY id")

# What went back in the end, or a later refund of as much, makes good for one that was refused; one that asked
# again for all that the shop may not keep stands in its place.
_REFUSED = text(
    """
    SELECT id, order_id, amount FROM refunds AS refused
    WHERE status = 'refused' AND NOT EXISTS (
        SELECT FROM refunds AS later
        WHERE later.payment_id = refused.payment_id AND later.created_at > refused.created_at
            AND (
                later.reason = :again AND later.amount >= refused.amount
                OR later.amount >= refused.amount AND later.status NOT IN ('refused', 'settled')
            )
    ) AND NOT EXISTS (
        SELECT FROM payments WHERE payments.id = refused.payment_id AND payments.status = 'refunded'
    )
    ORDER BY id
    """
)

# What is unsent is on its way. Older ones are left: the notification service would know them no more.
_TOLD = text(
    """
    SELECT page.sequence, id, type, page.subject, outbox.sequence IS NOT NULL AS unsent,
           occurred_at < now() - interval '30 days' AS old
    FROM (SELECT * FROM events WHERE sequence < :before ORDER BY sequence DESC LIMIT :limit) AS page
    LEFT JOIN outbox USING (sequence)
    ORDER BY page.sequence DESC
    """
)
MAILED = ("order.created", "order.paid", "order.shipped", "order.cancelled", "order.refunded")


@dataclass(frozen=True)
class Drift:
    """Something that doesn't agree; it is the same one when it is off by as much.

    `remedy` names what may be done about it, and `key` with what: services/repairing.py.
    """

    subject: str
    kind: str
    by: int = 0
    told: str = field(default="", compare=False)
    remedy: str = field(default="", compare=False)
    key: Any = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.subject}: {self.told or self.kind}"


Search = Generator[None, None, list[Drift]]


def find_drift(session: Session, desk: Desk, settle_seconds: float = SETTLE_SECONDS) -> Search:
    """Look, and look again some seconds later: what is the same then is returned. Yields between pages."""
    first = yield from _look(session, desk)
    if not first:
        return []
    time.sleep(settle_seconds)
    yield
    seen = set(first)
    again = yield from _look(session, desk)
    return [drift for drift in again if drift in seen]


def reconcile(session: Session, desk: Desk, settle_seconds: float) -> list[Drift]:
    """Return what doesn't agree."""
    search = find_drift(session, desk, settle_seconds)
    while True:
        try:
            next(search)
        except StopIteration as end:
            found: list[Drift] = end.value
            return found


class DriftWatch:
    """The periodic job: one page a call, and the number in `worker_status` at the end.

    It rests for ten minutes after a search that found nothing. What it finds may be on its way only, held up
    by a broker or a worker that is away, so it soon looks again, and the number is not an old one for long;
    the longer nothing but the same is found, the later, for a search reads all books.
    """

    def __init__(
        self, desk: Desk, settle_seconds: float = SETTLE_SECONDS, rest_seconds: float = REST_SECONDS
    ) -> None:
        self._desk, self._settle_seconds, self._rest_seconds = desk, settle_seconds, rest_seconds
        self._search: Search | None = None
        self._rests_until = float("-inf")
        self._known: set[Drift] = set()
        self._patience = 0.0

    def __call__(self, session: Session) -> bool:
        """Read a page; tell whether there is more."""
        if self._search is None and time.monotonic() < self._rests_until:
            return False
        search = self._search or find_drift(session, self._desk, self._settle_seconds)
        # After a failure it begins anew.
        self._search = None
        try:
            next(search)
        except StopIteration as end:
            found = set(end.value)
            note_drift(session, len(end.value))
            self._rest_after(found)
            return False
        except Exception:
            # What was found before says nothing about now.
            forget_drift(session)
            raise
        self._search = search
        return True

    def _rest_after(self, found: set[Drift]) -> None:
        if not found:
            self._patience = self._rest_seconds
        elif found <= self._known:
            self._patience = min(max(FIRST_REST_SECONDS, 2 * self._patience), self._rest_seconds)
        else:
            self._patience = 0.0
        self._known = found
        self._rests_until = time.monotonic() + self._patience


def note_drift(session: Session, count: int) -> None:
    """Write the number down for the HTTP processes."""
    told = {"value": str(count), "updated_at": func.now()}
    statement = insert(WorkerStatus).values(name=STATUS_NAME, **told)
    with transaction(session) as here:
        here.execute(statement.on_conflict_do_update(index_elements=["name"], set_=told))


def forget_drift(session: Session) -> None:
    """Leave the HTTP processes without a number; without the database they have none anyway."""
    with suppress(SQLAlchemyError), transaction(session) as here:
        here.execute(delete(WorkerStatus).where(WorkerStatus.name == STATUS_NAME))


def last_drift(session: Session) -> dict[str, float]:
    """Return the number of the last search, if it came to an end; nothing while the database is away."""
    try:
        with transaction(session) as here:
            value = here.scalar(select(WorkerStatus.value).where(WorkerStatus.name == STATUS_NAME))
    except SQLAlchemyError:
        return {}
    return {} if value is None else {"": float(value)}


def _look(session: Session, desk: Desk) -> Search:
    found: list[Drift] = []
    for drifts in (_product_pages(session, desk), _money_pages(session), _mail_pages(session, desk)):
        for page in drifts:
            found += page
            yield
    return found + _to_look_at(session)


def _product_pages(session: Session, desk: Desk) -> Iterator[list[Drift]]:
    after = 0
    while after < NO_LIMIT:
        with transaction(session) as here:
            since = here.scalar(_A_MOMENT_AGO)
        # Theirs first: what an order does meanwhile shows in ours as moving.
        books = desk.products.read_books(after=after, limit=PRODUCTS_AT_ONCE)
        last = books[-1].product_id if books else NO_LIMIT
        ours: defaultdict[int, Pieces] = defaultdict(Pieces)
        for rows in count_pieces(session, after, last, since):
            for row in rows:
                ours[row.product_id].add(row)
            yield []
        yield [drift for one in books for drift in _compare(one, ours.pop(one.product_id, Pieces()))]
        # Lines of products that the product service doesn't know.
        for product_id, pieces in sorted(ours.items()):
            nothing = Books(product_id=product_id, stock=0, delivered=0, returned=0, held=0, sold=0)
            yield list(_compare(nothing, pieces))
        after = last


def _compare(theirs: Books, ours: Pieces) -> Iterator[Drift]:
    subject = f"product {theirs.product_id}"
    expected = theirs.delivered + theirs.returned - theirs.held - theirs.sold
    if theirs.stock != expected:
        sums = f"{theirs.delivered} delivered + {theirs.returned} returned - {theirs.held} held"
        told = f"stock is {theirs.stock}, not {expected} = {sums} - {theirs.sold} sold"
        yield Drift(subject, "stock", theirs.stock - expected, told, "ledger")
    for kind in ("held", "sold"):
        there, here = getattr(theirs, kind), getattr(ours, kind)
        if abs(there - here) > ours.moving:
            told = f"{there} {kind} in the product service, {here} in the orders"
            yield Drift(subject, kind, there - here, told, "reservations", theirs.product_id)


def _money_pages(session: Session) -> Iterator[list[Drift]]:
    after: Any = FIRST_ID
    while after is not None:
        with transaction(session) as here:
            last = here.scalar(_LAST_OF_PAGE, {"after": after, "skip": ORDERS_AT_ONCE - 1})
            rows = here.execute(_MONEY, {"after": after, "last": last}).all()
        yield [drift for row in rows for drift in _judge(row)]
        after = last


def _judge(row: Any) -> Iterator[Drift]:
    subject = f"order {row.id}"
    if row.status in ("paid", "shipped", "completed") and not row.paying:
        yield Drift(subject, f"{row.status} without a captured payment", remedy="unpaid")
    if row.kept > 1:
        yield Drift(subject, f"{row.kept} captured payments not refunded", remedy="refund", key=row.id)
    if row.status == "cancelled" and row.kept:
        told = "cancelled, and its money neither back nor on its way"
        yield Drift(subject, told, remedy="refund", key=row.id)


def _mail_pages(session: Session, desk: Desk) -> Iterator[list[Drift]]:
    """Go back through the events that the buyer is told about, the newest first."""
    before = NO_LIMIT
    while True:
        with transaction(session) as here:
            rows = here.execute(_TOLD, {"before": before, "limit": EVENTS_AT_ONCE}).all()
        told = [row for row in rows if row.type in MAILED and not (row.unsent or row.old)]
        mailed = desk.notifications.find_mailed([row.id for row in told]) if told else set()
        yield [
            Drift(f"order {row.subject}", f"no mail of {row.type}", remedy="mail", key=row.id)
            for row in told
            if row.id not in mailed
        ]
        if len(rows) < EVENTS_AT_ONCE or rows[-1].old:
            return
        before = rows[-1].sequence


def _to_look_at(session: Session) -> list[Drift]:
    with transaction(session) as here:
        anomalies = here.execute(_ANOMALIES).all()
        refused = here.execute(_REFUSED, {"again": ASKED_AGAIN}).all()
    return [
        *(
            Drift(
                f"payment anomaly {row.id}",
                f"{row.reason}: {row.amount} {row.currency} told as {row.told} of payment {row.payment_id}",
                remedy="anomaly",
            )
            for row in anomalies
        ),
        *(
            Drift(f"refund {row.id}", f"refused: {row.amount} of order {row.order_id}", remedy="refused")
            for row in refused
        ),
    ]
