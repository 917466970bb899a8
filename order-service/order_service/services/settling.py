"""What a provider says of a payment becomes true here: at once, later, or when nobody expects it any more."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from chassis.db import transaction
from chassis.events import record
from chassis.logs import get_logger
from order_service.events import order_paid
from order_service.models import LIVE, Order, Payment, now
from order_service.payments.base import Charge, Unknown
from order_service.services.anomalies import fits, record_other_amount
from order_service.services.desk import Desk, lock_order
from order_service.services.refunds import open_refund

# How long a payment under way may hold up the expiry of its order.
GRACE = timedelta(minutes=10)

log = get_logger(__name__)


def record_charge(
    session: Session, order: Order, payment: Payment, charge: Charge, *, source: str = "books"
) -> None:
    """Note what the provider says of a payment; the order is locked. `source` is the webhook that says it.

    Any news may come twice, late or out of order. Money that came is never lost from sight: it pays the
    order, or it goes back by itself; of another amount than the payment's it is kept as an anomaly.
    """
    if not fits(payment, charge):
        record_other_amount(session, payment, charge, source=source)
    elif charge.status == "captured":
        _record_capture(session, order, payment)
    elif not payment.is_live:
        return
    elif charge.status == "declined":
        payment.decline(charge.reason)
    elif charge.status == "failed":
        payment.fail(charge.reason)
    elif charge.status == "cancelled":
        payment.fail("cancelled at the provider")
    elif charge.status == "requires_action":
        payment.require_action(charge.redirect_url, charge.client_secret)


def _record_capture(session: Session, order: Order, payment: Payment) -> None:
    if payment.has_money:
        return
    payment.capture(late=order.status != "pending" or order.live_payment not in (None, payment))
    if not payment.late:
        order.pay(now())
        record(session, order_paid(order, payment))
        return
    log.warning("payment came too late and goes back", order_id=str(order.id), payment_id=str(payment.id))
    open_refund(session, order, payment, payment.left, reason="late_payment", due=now())


def settle_payments(session: Session, desk: Desk) -> bool:
    """Ask a provider for what became of a payment under way; a periodic job, again until none is due.

    One a call: a provider that keeps silent must hold up neither the job's heartbeat nor its end.
    """
    payment = _take_due(session)
    if payment is None:
        return False
    settle_payment(session, desk, payment)
    return True


def _take_due(session: Session) -> Payment | None:
    """Take a payment that is to be looked at, and put it off in case that it has no answer yet."""
    due = (
        select(Payment)
        .where(Payment.status.in_(LIVE), Payment.next_check_at <= now())
        .order_by(Payment.checks > 0, Payment.next_check_at)
        .limit(1)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    with transaction(session) as here:
        payment = here.scalar(due)
        if payment is not None:
            payment.put_off(now())
    return payment


def settle_payment(session: Session, desk: Desk, payment: Payment) -> None:
    """Ask the provider for one payment, stop it there when the order can't wait for it, note the answer."""
    stop = _is_waiting_in_vain(session, payment.order_id, now())
    charge = _ask(desk, payment, stop=stop)
    if charge is None:
        return
    with transaction(session) as here:
        order = lock_order(here, payment.order_id)
        payment = order.get_payment(payment.id)
        record_charge(here, order, payment, charge)
        if stop and charge.status == "captured" and payment.is_live:
            # It will never be captured as it should be, and the order must not wait for ever.
            payment.fail("another amount was captured")


def _ask(desk: Desk, payment: Payment, *, stop: bool) -> Charge | None:
    """Return the provider's answer, None while there is no definite one.

    What never arrived there is cancelled under its own id, so that it can't arrive any more.
    """
    provider = desk.providers.find(payment.method)
    try:
        charge = provider.lookup(payment.id)
        if charge is None or (stop and charge.status in LIVE):
            charge = provider.cancel(payment.id)
    except Unknown as error:
        log.warning("payment still unknown", payment_id=str(payment.id), reason=str(error))
        return None
    return charge


def _is_waiting_in_vain(session: Session, order_id: UUID, at: datetime) -> bool:
    """Tell whether the order is cancelled, or waits longer than an order may."""
    with transaction(session) as here:
        statement = select(Order.status, Order.expires_at).where(Order.id == order_id)
        status, expires_at = here.execute(statement).one()
    return status != "pending" or expires_at is None or expires_at + GRACE <= at
