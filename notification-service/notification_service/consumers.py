"""Which function reacts to which event."""

from functools import partial

from sqlalchemy.orm import Session

from chassis.events import Envelope
from chassis.inbox import Asking, Consumer
from notification_service import services
from notification_service.clients import UserService
from notification_service.events import UserData
from notification_service.rendering import Texts


def make_consumers(texts: Texts, users: UserService) -> list[Consumer]:
    """Return the service's queues, each with its table of handlers."""
    welcome = partial(services.welcome, texts=texts)
    about_user = partial(services.ask_about_user, users=users)
    recovery = Asking(about_user, partial(services.mail_recovery, texts=texts))
    email_change = Asking(about_user, partial(services.mail_email_change, texts=texts))
    order = Asking(about_user, partial(services.notify_order, texts=texts))
    low_stock = Asking(
        partial(services.ask_whom_to_warn, users=users), partial(services.notify_low_stock, texts=texts)
    )
    return [
        Consumer(
            "user.events",
            {
                "user.registered": welcome,
                "user.updated": update_person,
                "user.recovery.requested": recovery,
                "user.email.change.requested": email_change,
            },
        ),
        Consumer("product.events", {"product.stock.updated": low_stock}),
        Consumer(
            "order.events",
            {
                "order.created": order,
                "order.paid": order,
                "order.shipped": order,
                "order.cancelled": order,
                "order.refunded": order,
            },
        ),
    ]


def update_person(session: Session, event: Envelope) -> None:
    """Keep what has changed about a user."""
    services.save_person(session, UserData.model_validate(event.data), sequence=event.sequence)
