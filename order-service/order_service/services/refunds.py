"""Money on its way back: durable before the provider hears of it, finished whatever happens."""

from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from chassis.db import transaction
from chassis.events import record
from chassis.idempotency import Once
from chassis.logs import get_logger
from order_service.errors import RefundNotRefused, RefundRefused
from order_service.events import order_cancelled, order_refunded
from order_service.models import Order, Payment, Refund, now
from order_service.payments.base import Repayment, Unknown
from order_service.services.desk import Desk, lock_order, refuse

# Longer than the request itself takes to ask the provider.
FIRST_TRY = timedelta(seconds=10)
# After how long money that the shop may not keep is asked for again when its refund was refused. In the end
# it is left to an operator, whom `flask reconcile` tells of it.
ASKED_AGAIN = "refused before"
ASK_AGAIN = tuple(timedelta(minutes=minutes) for minutes in (1, 10, 60, 6 * 60, 24 * 60))

log = get_logger(__name__)


def refund_order(
    session: Session, desk: Desk, once: Once, *, order_id: UUID, amount: Decimal | None, reason: str
) -> tuple[Order, bool]:
    """Give money back, all that is left without an amount; return the order and whether it is done."""
    with transaction(session) as here:
        order = lock_order(here, order_id)
        refund_id = once.claim(here)
        refund = here.get(Refund, refund_id) if once.resumed else None
        if refund is None:
            payment = order.refundable_payment()
            wanted = payment.left if amount is None else amount
            refund = open_refund(here, order, payment, wanted, reason=reason, refund_id=refund_id)
    return _conclude(session, once, refund, ask_refund(desk, order, refund))


def open_refund(
    session: Session,
    order: Order,
    payment: Payment,
    amount: Decimal,
    *,
    reason: str,
    refund_id: UUID | None = None,
    due: datetime | None = None,
) -> Refund:
    """Set an amount aside and write its refund; the order is locked. Without `due` the caller drives it."""
    payment.begin_refund(amount)
    refund = Refund(
        payment_id=payment.id,
        order_id=order.id,
        amount=amount,
        reason=reason,
        status="processing",
        next_try_at=due or now() + FIRST_TRY,
    )
    if refund_id is not None:
        refund.id = refund_id
    session.add(refund)
    return refund


def ask_refund(desk: Desk, order: Order, refund: Refund) -> Repayment | None:
    """Ask the provider for a refund, outside any transaction; None when it gives no definite answer."""
    payment = order.get_payment(refund.payment_id)
    if not refund.is_open:
        return None
    provider = desk.providers.find(payment.method)
    try:
        return provider.refund(
            refund.id, payment_id=payment.id, amount=refund.amount, currency=payment.currency
        )
    except Unknown as error:
        log.warning("refund unknown", refund_id=str(refund.id), reason=str(error))
        return None


def record_repayment(session: Session, order: Order, refund: Refund, answer: Repayment | None) -> None:
    """Note what the provider says of a refund; the order is locked."""
    if not refund.is_open or answer is None or answer.status == "processing":
        return
    payment = order.get_payment(refund.payment_id)
    if answer.status == "refused":
        log.error("refund refused", refund_id=str(refund.id), order_id=str(order.id), reason=answer.reason)
        refund.refuse()
        payment.drop_refund(refund.amount)
        if not order.is_entitled_to(payment):
            _ask_again(session, order, payment)
        return
    refund.finish()
    _record_money_back(session, order, payment, refund)


def _record_money_back(session: Session, order: Order, payment: Payment, refund: Refund) -> None:
    payment.finish_refund(refund.amount)
    record(session, order_refunded(order, refund))
    # Money that came late and goes back leaves an order alone that another payment pays.
    if order.status == "paid" and payment is order.payment and payment.status == "refunded":
        order.cancel()
        record(session, order_cancelled(order, "refunded"))


def _ask_again(session: Session, order: Order, payment: Payment) -> None:
    """Have what the provider refused to give back asked for under a new id, unless that was done often."""
    # Without the one at hand, which is not flushed yet.
    refused = select(func.count()).where(Refund.payment_id == payment.id, Refund.status == "refused")
    before: int = session.scalar(refused) or 0
    if before < len(ASK_AGAIN):
        open_refund(session, order, payment, payment.left, reason=ASKED_AGAIN, due=now() + ASK_AGAIN[before])


def _conclude(session: Session, once: Once, begun: Refund, answer: Repayment | None) -> tuple[Order, bool]:
    refusal = None
    with transaction(session) as here:
        order, refund = _lock(here, begun)
        record_repayment(here, order, refund, answer)
        if refund.status == "refused":
            refusal = RefundRefused()
            refuse(here, once, refusal)
        else:
            once.reply(here, 202 if refund.is_open else 200, order)
    if refusal is not None:
        raise refusal
    return order, not refund.is_open


def drive_refund(session: Session, desk: Desk, begun: Refund) -> Order:
    """Ask the provider for a refund and note the answer; return the order."""
    with transaction(session) as here:
        order = here.get_one(Order, begun.order_id)
    answer = ask_refund(desk, order, begun)
    with transaction(session) as here:
        order, refund = _lock(here, begun)
        record_repayment(here, order, refund, answer)
    return order


def settle_refused_refund(session: Session, refund_id: UUID) -> Payment:
    """Note that money whose refund was refused went back by another way; return its payment.

    Raises `RefundNotRefused`, or `RefundExceedsPayment` where it is no longer kept.
    """
    with transaction(session) as here:
        begun = here.get(Refund, refund_id)
        if begun is None:
            raise RefundNotRefused
        order, refund = _lock(here, begun)
        payment = order.get_payment(refund.payment_id)
        refund.settle()
        for retry in here.scalars(_unasked(payment)):
            retry.refuse()
            payment.drop_refund(retry.amount)
        payment.begin_refund(refund.amount)
        _record_money_back(here, order, payment, refund)
    return payment


def _unasked(payment: Payment) -> Select[Refund]:
    """Select what the provider was not asked for once more yet: it would give back what has gone back."""
    waiting = (Refund.status == "processing", Refund.reason == ASKED_AGAIN, Refund.tries == 0)
    return select(Refund).where(Refund.payment_id == payment.id, *waiting).with_for_update()


def finish_refunds(session: Session, desk: Desk) -> bool:
    """Go on with a refund that has no definite answer yet; a periodic job, again until none is due.

    One a call, as payments are settled.
    """
    due = (
        select(Refund)
        .where(Refund.status == "processing", Refund.next_try_at <= now())
        .order_by(Refund.tries > 0, Refund.next_try_at)
        .limit(1)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    with transaction(session) as here:
        refund = here.scalar(due)
        if refund is not None:
            refund.put_off(now())
    if refund is None:
        return False
    drive_refund(session, desk, refund)
    return True


def _lock(session: Session, begun: Refund) -> tuple[Order, Refund]:
    order = lock_order(session, begun.order_id)
    return order, session.get_one(Refund, begun.id, populate_existing=True)
