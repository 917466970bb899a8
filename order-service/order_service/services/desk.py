"""What the use-cases work with, and the steps that several of them take."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from chassis.errors import DomainError, NotFound, lookup, problem
from chassis.idempotency import Once
from order_service.clients import NotificationService, ProductService, UserService
from order_service.errors import ERROR_TABLE
from order_service.models import HIDDEN, Order
from order_service.payments.registry import Providers


@dataclass(frozen=True)
class Desk:
    """The collaborators of the use-cases, wired in `create_app`."""

    products: ProductService
    users: UserService
    notifications: NotificationService
    providers: Providers
    currency: str
    payment_timeout: timedelta


def lock_order(session: Session, order_id: UUID, *, user_id: int | None = None) -> Order:
    """Lock an order's row and return it as it is now; with `user_id` only that person's own.

    Everything about an order changes under this lock, and it is taken before that of an idempotency key.
    """
    order = lock_intent(session, order_id)
    if order is None or order.status in HIDDEN or user_id not in (None, order.user_id):
        raise NotFound
    return order


def lock_intent(session: Session, order_id: UUID) -> Order | None:
    """Lock an order's row, also of one that nobody may see."""
    statement = select(Order).where(Order.id == order_id).with_for_update()
    return session.scalar(statement.execution_options(populate_existing=True))


def refuse(session: Session, once: Once, refusal: DomainError) -> None:
    """Store a refusal in the transaction that makes it true."""
    status, code = lookup(refusal, ERROR_TABLE)
    once.refuse(session, status, problem(status, code, str(refusal), refusal.members))
