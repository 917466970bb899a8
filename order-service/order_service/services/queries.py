"""Looking at orders."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from chassis.errors import NotFound
from chassis.events import Event
from chassis.paging import Page, fetch_page
from order_service.models import HIDDEN, Order


def get_order(session: Session, order_id: UUID, *, user_id: int | None = None) -> Order:
    """Return an order, with `user_id` only that person's own."""
    order = session.get(Order, order_id)
    if order is None or order.status in HIDDEN or user_id not in (None, order.user_id):
        raise NotFound
    return order


def list_orders(
    session: Session,
    *,
    user_id: int | None = None,
    status: str | None = None,
    created_from: datetime | None = None,
    created_to: datetime | None = None,
    cursor: str | None = None,
    limit: int,
) -> Page[Order]:
    """Return a page of orders, newest first, in three statements."""
    statement = select(Order).where(Order.status.not_in(HIDDEN))
    if user_id is not None:
        statement = statement.where(Order.user_id == user_id)
    if status is not None:
        statement = statement.where(Order.status == status)
    if created_from is not None:
        statement = statement.where(Order.created_at >= created_from)
    if created_to is not None:
        statement = statement.where(Order.created_at <= created_to)
    return fetch_page(session, statement, keys=[Order.created_at, Order.id], cursor=cursor, limit=limit)


def order_history(session: Session, order_id: UUID, *, user_id: int | None = None) -> Sequence[Any]:
    """Return every event of an order, oldest first."""
    get_order(session, order_id, user_id=user_id)
    statement = select(Event).where(Event.subject == str(order_id)).order_by(Event.sequence)
    return session.scalars(statement).all()
