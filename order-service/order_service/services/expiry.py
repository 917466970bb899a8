"""Orders whose time to pay is over."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from chassis.db import transaction
from chassis.events import record
from order_service.events import order_cancelled
from order_service.models import LIVE, Order, Payment, now

EXPIRED_AT_ONCE = 500


def expire_orders(session: Session) -> bool:
    """Cancel a batch of due orders; a periodic job, called again until none is left.

    Any number of workers may do it: each takes rows that no other has locked.
    """
    with transaction(session) as here:
        taken = here.scalars(_due()).all()
        # Loaded once the rows are locked: a payment that began while the first statement ran shows here.
        orders = [order for order in _load(here, taken) if order.live_payment is None] if taken else []
        for order in orders:
            order.cancel()
        record(here, *(order_cancelled(order, "payment_timeout") for order in orders))
    return len(taken) == EXPIRED_AT_ONCE


def _due() -> Select[Any]:
    """Lock due orders; one with a payment under way is passed over until that is settled."""
    under_way = select(Payment.id).where(Payment.order_id == Order.id, Payment.status.in_(LIVE))
    return (
        select(Order.id)
        .where(Order.status == "pending", Order.expires_at <= now(), ~under_way.exists())
        .order_by(Order.expires_at)
        .limit(EXPIRED_AT_ONCE)
        .with_for_update(of=Order, skip_locked=True)
    )


def _load(session: Session, ids: Sequence[UUID]) -> Sequence[Order]:
    statement = select(Order).where(Order.id.in_(ids)).order_by(Order.id)
    return session.scalars(statement.execution_options(populate_existing=True)).all()
