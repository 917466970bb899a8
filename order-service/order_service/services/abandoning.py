"""Intents that came to nothing: whatever is or may yet be held for them is released."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from chassis.db import transaction
from chassis.errors import DependencyAway
from chassis.logs import get_logger
from order_service.models import Order, Release, now
from order_service.services.desk import Desk

STALLED = timedelta(seconds=60)
SWEPT_AT_ONCE = 100
RELEASED_AT_ONCE = 20
TRY_AGAIN = timedelta(seconds=5)
KEPT = timedelta(days=30)
PURGED_AT_ONCE = 1000

log = get_logger(__name__)


def abandon_order(session: Session, order: Order) -> None:
    """Give an intent up, and owe its release.

    Also where nothing was reserved: a call that is still on its way must find the tombstone.
    """
    order.abandon()
    session.add(Release(order_id=order.id))


def sweep_intents(session: Session) -> bool:
    """Give up the intents that nobody goes on with; a periodic job."""
    stalled = (
        select(Order)
        .where(Order.status == "reserving", Order.created_at < now() - STALLED)
        .order_by(Order.created_at)
        .limit(SWEPT_AT_ONCE)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    with transaction(session) as here:
        orders = here.scalars(stalled).all()
        for order in orders:
            abandon_order(here, order)
            log.warning("intent swept", order_id=str(order.id))
    return len(orders) == SWEPT_AT_ONCE


def release_reservations(session: Session, desk: Desk) -> bool:
    """Release what is owed until the product service has confirmed it; a periodic job."""
    due = (
        select(Release)
        .where(Release.next_try_at <= now())
        .order_by(Release.next_try_at)
        .limit(RELEASED_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    with transaction(session) as here:
        releases = here.scalars(due).all()
        for release in releases:
            release.tries += 1
            release.next_try_at = now() + TRY_AGAIN
    for number, release in enumerate(releases, start=1):
        if not release_now(session, desk, release.order_id):
            if untried := [one.order_id for one in releases[number:]]:
                _put_first(session, untried)
            return False
    return len(releases) == RELEASED_AT_ONCE


def _put_first(session: Session, untried: Sequence[UUID]) -> None:
    """Have releases tried before the one that failed is again, which may fail for ever."""
    with transaction(session) as here:
        here.execute(update(Release).where(Release.order_id.in_(untried)).values(next_try_at=now()))


def purge_abandoned(session: Session) -> bool:
    """Forget intents that were given up 30 days ago and owe nothing; a periodic job."""
    owing = select(Release.order_id).where(Release.order_id == Order.id)
    old = (
        select(Order.id)
        .where(Order.status == "abandoned", Order.created_at < now() - KEPT, ~owing.exists())
        .order_by(Order.created_at)
        .limit(PURGED_AT_ONCE)
        .with_for_update(of=Order, skip_locked=True)
    )
    with transaction(session) as here:
        ids = here.scalars(old).all()
        here.execute(delete(Order).where(Order.id.in_(ids)))
    return len(ids) == PURGED_AT_ONCE


def release_now(session: Session, desk: Desk, order_id: UUID) -> bool:
    """Release what is held for an order; tell whether the product service has confirmed it."""
    try:
        desk.products.release(order_id)
    except DependencyAway:
        log.warning("release waits for the product service", order_id=str(order_id))
        return False
    with transaction(session) as here:
        here.execute(delete(Release).where(Release.order_id == order_id))
    return True
