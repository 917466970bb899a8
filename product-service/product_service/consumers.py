"""Which events of other services change the stock."""

from uuid import UUID

from sqlalchemy.orm import Session

from chassis.events import Envelope
from chassis.inbox import Consumer
from product_service.services import reservations


def release_cancelled(session: Session, event: Envelope) -> None:
    """Give a cancelled order's pieces back."""
    reservations.release(session, UUID(event.data["order_id"]))


def note_sold(session: Session, event: Envelope) -> None:
    """Count a paid order's pieces as sold."""
    reservations.mark_sold(session, UUID(event.data["order_id"]))


# A reservation only ever goes from held to sold to released, so late and repeated events do no harm.
ORDER_EVENTS = Consumer(
    "product-service.order.events",
    {
        "order.cancelled": release_cancelled,
        "order.paid": note_sold,
    },
)
