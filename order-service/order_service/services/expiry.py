"""Orders whose time to pay is over."""

from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from chassis.db import transaction
from chassis.events import record
from order_service.events import order_cancelled
from order_service.models import LIVE, Order, Payment, now

EXPIRED_AT_ONCE = 500
FRESH = {"synchronize_session": False, "populate_existing": True}


def expire_orders(session: Session) -> bool:
    """Cancel a batch of due orders; a periodic job, called again until none is left.

    Any number of workers may do it: each takes rows that no other has locked.
    """
    with transaction(session) as here:
        taken = here.scalars(_due()).all()
        # Looks again now that the rows are locked: a payment that began while `_due` ran shows only here.
        cancelled = here.scalars(Order.expire(taken, now()), execution_options=FRESH).all() if taken else []
        record(here, *(order_cancelled(order, "payment_timeout") for order in cancelled))
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
