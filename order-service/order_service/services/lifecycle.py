"""What happens to an order after it was placed: cancelled, shipped, completed."""

from uuid import UUID

from sqlalchemy.orm import Session

from chassis.db import transaction
from chassis.events import record
from order_service.events import order_cancelled, order_completed, order_shipped
from order_service.models import Order, now
from order_service.services.desk import Desk, lock_order
from order_service.services.refunds import drive_refund, open_refund


def cancel_order(session: Session, desk: Desk, order_id: UUID, *, user_id: int | None, reason: str) -> Order:
    """Cancel an order before it is shipped, with `user_id` only that person's own; paid money goes back.

    It waits for nobody: a payment under way is stopped at the provider later, or goes back when it came.
    """
    with transaction(session) as here:
        order = lock_order(here, order_id, user_id=user_id)
        order.cancel()
        record(here, order_cancelled(order, reason))
        if order.live_payment is not None:
            order.live_payment.check_soon(now())
        payment, refund = order.payment, None
        if payment is not None and payment.has_money and payment.left:
            refund = open_refund(here, order, payment, payment.left, reason=reason)
    return order if refund is None else drive_refund(session, desk, refund)


def ship_order(session: Session, order_id: UUID, *, carrier: str, tracking_number: str) -> Order:
    """Hand a paid order to the carrier."""
    with transaction(session) as here:
        order = lock_order(here, order_id)
        order.ship(carrier, tracking_number, now())
        record(here, order_shipped(order))
    return order


def complete_order(session: Session, order_id: UUID, *, user_id: int) -> Order:
    """Note that the buyer has received the goods."""
    with transaction(session) as here:
        order = lock_order(here, order_id, user_id=user_id)
        order.complete()
        record(here, order_completed(order))
    return order
