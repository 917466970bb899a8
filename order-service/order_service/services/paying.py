"""Paying an order: a durable payment, the provider's answer, its effect."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from chassis.db import transaction
from chassis.errors import DomainError, Invalid
from chassis.idempotency import Once
from chassis.logs import get_logger
from order_service.errors import OrderNotPayable, PaymentDeclined, PaymentInProgress
from order_service.models import Order, Payment, now
from order_service.payments.base import Charge, Provider, Unknown
from order_service.services.desk import Desk, lock_order, refuse
from order_service.services.settling import record_charge

# Longer than the request itself takes to ask the provider.
FIRST_CHECK = timedelta(seconds=10)

log = get_logger(__name__)


def list_methods(desk: Desk) -> list[Provider]:
    """Return the payment methods that buyers may use."""
    return desk.providers.offered


def pay_order(
    session: Session,
    desk: Desk,
    once: Once,
    *,
    user_id: int,
    order_id: UUID,
    method: str,
    token: str | None = None,
) -> tuple[Order, bool]:
    """Pay an order; return it and whether the provider has finished.

    The payment is durable before the provider hears of it, and the provider is asked outside any transaction.
    """
    provider = desk.providers.find_offered(method)
    if provider is None:
        raise Invalid("method", "is no payment method of this shop")
    order, payment = _begin(session, once, user_id=user_id, order_id=order_id, method=method)
    # Who goes on with a payment whose order was cancelled meanwhile takes no money that would only go back.
    charge = _charge(provider, payment, token) if payment.is_live and order.status == "pending" else None
    return _conclude(session, once, payment, charge)


def _begin(
    session: Session, once: Once, *, user_id: int, order_id: UUID, method: str
) -> tuple[Order, Payment]:
    """Write the payment; who takes a request over goes on with the one that it began."""
    with transaction(session) as here:
        order = lock_order(here, order_id, user_id=user_id)
        payment_id = once.claim(here)
        if once.resumed and (begun := order.find_payment(payment_id)):
            return order, begun
        order.check_payable(now())
        if order.live_payment is not None:
            raise PaymentInProgress
        return order, order.begin_payment(payment_id, method, first_check_at=now() + FIRST_CHECK)


def _charge(provider: Provider, payment: Payment, token: str | None) -> Charge | None:
    """Ask the provider; None when it gives no definite answer."""
    try:
        return provider.charge(payment.id, amount=payment.amount, currency=payment.currency, token=token)
    except Unknown as error:
        log.warning("payment unknown", payment_id=str(payment.id), reason=str(error))
        return None


def _conclude(session: Session, once: Once, begun: Payment, charge: Charge | None) -> tuple[Order, bool]:
    """Note the answer together with the reply to the buyer."""
    with transaction(session) as here:
        order = lock_order(here, begun.order_id)
        payment = order.get_payment(begun.id)
        if charge is not None:
            record_charge(here, order, payment, charge)
        elif payment.is_live:
            payment.check_soon(now())
        refusal = _refusal(order, payment)
        if refusal is None:
            once.reply(here, 202 if payment.is_live else 200, order)
        else:
            refuse(here, once, refusal)
    if refusal is not None:
        raise refusal
    return order, not payment.is_live


def _refusal(order: Order, payment: Payment) -> DomainError | None:
    """Tell what became of the buyer's wish to pay: None while it is fulfilled or may yet be."""
    if payment.status in ("declined", "failed"):
        return PaymentDeclined()
    if payment.is_live:
        # Of a cancelled order it is stopped at the provider, or its money goes back.
        return None if order.status == "pending" else OrderNotPayable()
    if order.payment_time is not None and order.payment is payment:
        return None
    return OrderNotPayable()
