"""What may safely be done about drift, and what is left to somebody's judgement.

Every step is one that the shop takes by itself when nothing is lost: it may be taken twice, and none makes
money or stock out of nothing.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, any_, cast, null, select
from sqlalchemy.orm import Session

from chassis.db import transaction
from chassis.events import resend
from order_service.clients import Kept
from order_service.models import Order, OrderItem, Payment, Refund, Release, now
from order_service.services.desk import Desk, lock_order
from order_service.services.reconciling import Drift
from order_service.services.refunds import open_refund

KEPT_AT_ONCE = 500
MAILS_AT_ONCE = 500
HOLDS, SOLD = ("pending",), ("paid", "shipped", "completed")
BY_HAND = {
    "ledger": "find the change that is in no movement, and set products.stock to what the ledger adds up to",
    "unpaid": "ask the payment provider for its payments; where no money came, cancel it",
    "anomaly": "settle it with the payment provider, then delete its row of payment_anomalies",
    "refused": "refund as much again (unless cancelled), or pay by another way and flask settle-refund",
}


@dataclass(frozen=True)
class Step:
    """What was done, or what there is to do by hand."""

    told: str
    by_hand: bool = False

    def __str__(self) -> str:
        return f"{'by hand' if self.by_hand else 'repaired'}: {self.told}"


def repair(session: Session, desk: Desk, drifts: Sequence[Drift]) -> Iterator[tuple[Drift, list[Step]]]:
    """Do about each difference what is safe; return it with what was done, or is to be done by hand."""
    seen: set[tuple[str, Any]] = set()
    lost = [drift.key for drift in drifts if drift.remedy == "mail"]
    for start in range(0, len(lost), MAILS_AT_ONCE):
        _mail_again(session, desk, lost[start : start + MAILS_AT_ONCE])
    for drift in drifts:
        # Held and sold of a product are one matter.
        again = drift.key is not None and (drift.remedy, drift.key) in seen
        seen.add((drift.remedy, drift.key))
        yield drift, [] if again else _take_steps(session, desk, drift)


def _take_steps(session: Session, desk: Desk, drift: Drift) -> list[Step]:
    if drift.remedy == "reservations":
        return list(_settle_reservations(session, desk, drift.key))
    if drift.remedy == "refund":
        return _refund(session, drift.key)
    if drift.remedy == "mail":
        return [Step("the event is sent again")]
    return [Step(BY_HAND[drift.remedy], by_hand=True)]


def _settle_reservations(session: Session, desk: Desk, product_id: int) -> Iterator[Step]:
    """Bring what is kept of a product to what its orders say, page by page through the orders' ids."""
    after: UUID | None = UUID(int=0)
    while after is not None:
        began = now()
        # Theirs first: an order is written before anything is reserved for it.
        page = desk.products.list_kept(product_id, after=after, limit=KEPT_AT_ONCE)
        last = page[-1].order_id if len(page) == KEPT_AT_ONCE else None
        kept = {one.order_id: one for one in page}
        with transaction(session) as here:
            ours = _read_orders(here, product_id, list(kept), after=after, last=last)
            releasing = set(here.scalars(select(Release.order_id).where(Release.order_id == _any(kept))))
        for one in page:
            yield from _settle(desk, one, ours.get(one.order_id), is_releasing=one.order_id in releasing)
        for order_id, order in ours.items():
            # What changed since may have been reserved since.
            if order.status in HOLDS + SOLD and order_id not in kept and order.updated_at < began:
                told = (
                    f"nothing of product {product_id} is kept for order {order_id}, which is {order.status}"
                )
                yield Step(f"{told}: cancel it, or book its pieces", by_hand=True)
        after = last


def _read_orders(
    session: Session, product_id: int, ids: Sequence[UUID], *, after: UUID, last: UUID | None
) -> dict[UUID, Any]:
    """Return status and pieces of a page's orders that have the product among their lines, and of these."""
    lines = (
        select(Order.id, Order.status, Order.updated_at, OrderItem.quantity)
        .join(OrderItem, OrderItem.order_id == Order.id)
        .where(OrderItem.product_id == product_id, OrderItem.order_id > after)
    )
    if last is not None:
        lines = lines.where(OrderItem.order_id <= last)
    others = select(Order.id, Order.status, Order.updated_at, null().label("quantity")).where(
        Order.id == _any(ids)
    )
    rows = [*session.execute(others), *session.execute(lines)]
    return {row.id: row for row in rows}


def _any(ids: Iterable[UUID]) -> Any:
    return any_(cast(list(ids), ARRAY(Uuid)))


def _settle(desk: Desk, kept: Kept, order: Any, *, is_releasing: bool) -> Iterator[Step]:
    """Do what the order's own events would do; what fits needs nothing."""
    status = order.status if order else "unknown"
    if is_releasing or status == "reserving" or (status in HOLDS and kept.status == "held"):
        # On its way, or as it should be.
        pass
    elif status in ("cancelled", "abandoned") or (status == "unknown" and kept.status == "held"):
        desk.products.release(kept.order_id)
        yield Step(f"released {kept.quantity} of order {kept.order_id}, which is {status}")
    elif status in SOLD and kept.status == "held":
        desk.products.mark_sold(kept.order_id)
        yield Step(f"counted {kept.quantity} of order {kept.order_id}, which is {status}, as sold")
    elif status not in SOLD:
        told = f"{kept.quantity} are sold for order {kept.order_id}, which is {status}: look for its payment"
        yield Step(told, by_hand=True)
    if status in HOLDS + SOLD and order.quantity != kept.quantity:
        told = f"{kept.quantity} are {kept.status} for order {kept.order_id}, which has {order.quantity or 0}"
        yield Step(f"{told}: book the difference", by_hand=True)


def _refund(session: Session, order_id: UUID) -> list[Step]:
    """Begin the refund of all money that the order has no right to; the worker ends it."""
    steps = []
    with transaction(session) as here:
        order = lock_order(here, order_id)
        for payment in order.payments:
            if order.is_entitled_to(payment) or not payment.has_money or not payment.left:
                continue
            if _was_refused(here, payment):
                told = f"the provider refuses to give payment {payment.id} back: {BY_HAND['refused']}"
                steps.append(Step(told, by_hand=True))
                continue
            amount = payment.left
            open_refund(here, order, payment, amount, reason="reconciled", due=now())
            steps.append(Step(f"began the refund of {amount:.2f} of payment {payment.id}"))
    return steps


def _was_refused(session: Session, payment: Payment) -> bool:
    refused = select(Refund.id).where(Refund.payment_id == payment.id, Refund.status == "refused").limit(1)
    return session.scalar(refused) is not None


def _mail_again(session: Session, desk: Desk, event_ids: Sequence[UUID]) -> None:
    """Send events again of which no mail came, as if they had never been handled."""
    desk.notifications.forget_handled(event_ids)
    with transaction(session) as here:
        resend(here, event_ids)
