"""What nobody asks for any more."""

from datetime import timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from chassis.db import transaction
from product_service.models import Reservation, ReservedLine

KEPT = timedelta(days=30)
PURGED_AT_ONCE = 1000


def purge_released(session: Session) -> bool:
    """Forget reservations that were released 30 days ago, tombstones among them; a periodic job.

    No call for such an order is still on its way, the ledger keeps what was given back, and an event that
    comes again all the same finds no order and changes no stock.
    """
    old = (
        select(Reservation.order_id)
        .where(Reservation.status == "released", Reservation.updated_at < func.now() - KEPT)
        .order_by(Reservation.updated_at)
        .limit(PURGED_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    with transaction(session) as here:
        ids = here.scalars(old).all()
        here.execute(delete(ReservedLine).where(ReservedLine.order_id.in_(ids)))
        here.execute(delete(Reservation).where(Reservation.order_id.in_(ids)))
    return len(ids) == PURGED_AT_ONCE
