"""What becomes a notification: one row per event, channel and recipient."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from chassis import context
from chassis.db import transaction
from chassis.events import Envelope
from chassis.idempotency import Once
from notification_service.clients import UserService
from notification_service.events import (
    AboutUser,
    AdminData,
    EmailChangeData,
    OrderData,
    RecoveryData,
    StockData,
    UserData,
)
from notification_service.models import Notification, Person, PushSubscription
from notification_service.recipients import is_phone
from notification_service.rendering import DEFAULT_LOCALE, Texts, one_line
from notification_service.services.people import ask_for_person, find_person, save_person
from notification_service.services.preferences import read_preferences

# Messages that no preference turns off, by channel: receipts, what guards the account, and what an
# administrator has to know. A text or push message beside them is always optional.
ALWAYS_SENT = frozenset(
    {("email", name) for name in ("welcome", "order_paid", "order_refunded", "low_stock")}
)
ORDER_TEMPLATES = {
    "order.created": "order_created",
    "order.paid": "order_paid",
    "order.shipped": "order_shipped",
    "order.cancelled": "order_cancelled",
    "order.refunded": "order_refunded",
}
DIRECT = "direct"


@dataclass(frozen=True)
class Message:
    """What a notification says, before it is laid out."""

    template: str
    locale: str
    subject: str
    data: Mapping[str, Any]


def welcome(session: Session, event: Envelope, texts: Texts) -> None:
    """Keep a new user and greet them."""
    user = UserData.model_validate(event.data)
    with transaction(session) as here:
        save_person(here, user, sequence=event.sequence)
        message = _message(texts, "welcome", user.locale, {"name": user.username})
        _insert(here, message, "email", user.email, user_id=user.user_id, event=event)


def ask_about_user(session: Session, event: Envelope, users: UserService) -> UserData | None:
    """Return what has to be asked about the user of an event, None when their own events have told it."""
    return ask_for_person(session, AboutUser.model_validate(event.data).user_id, users)


def mail_recovery(session: Session, event: Envelope, told: UserData | None, texts: Texts) -> None:
    """Mail somebody the way to a new password."""
    asked = RecoveryData.model_validate(event.data)
    with transaction(session) as here:
        person = find_person(here, asked.user_id, told)
        message = _message(texts, "password_reset", person.locale, {"name": person.username})
        _insert(here, message, "email", person.email, user_id=person.user_id, event=event)


def mail_email_change(session: Session, event: Envelope, told: UserData | None, texts: Texts) -> None:
    """Have the new address confirmed, and tell the old one."""
    asked = EmailChangeData.model_validate(event.data)
    with transaction(session) as here:
        person = find_person(here, asked.user_id, told)
        data = {"name": person.username, "new_email": asked.new_email}
        for template, address in (("email_change", asked.new_email), ("email_change_notice", asked.email)):
            message = _message(texts, template, person.locale, data)
            _insert(here, message, "email", address, user_id=person.user_id, event=event)


def notify_order(session: Session, event: Envelope, told: UserData | None, texts: Texts) -> None:
    """Tell the buyer what happened to an order, on every way that leads to them."""
    order = OrderData.model_validate(event.data)
    with transaction(session) as here:
        person = find_person(here, order.user_id, told)
        data = {**event.data, "name": person.username}
        message = _message(texts, ORDER_TEMPLATES[event.type], person.locale, data)
        wanted = read_preferences(here, person.user_id)
        for channel, recipient in _ways_to(here, person):
            optional = (channel, message.template) not in ALWAYS_SENT
            suppressed = optional and not getattr(wanted, channel)
            _insert(
                here,
                message,
                channel,
                recipient,
                user_id=person.user_id,
                event=event,
                status="suppressed" if suppressed else "queued",
            )


def ask_whom_to_warn(_session: Session, event: Envelope, users: UserService) -> Sequence[AdminData]:
    """Return every active administrator when a product has just fallen to its warning level, else nobody."""
    return users.list_admins() if StockData.model_validate(event.data).became_low else ()


def notify_low_stock(session: Session, event: Envelope, admins: Sequence[AdminData], texts: Texts) -> None:
    """Tell the administrators that a product has just fallen to its warning level."""
    stock = StockData.model_validate(event.data)
    data = {**stock.model_dump(), "product": event.data.get("name") or stock.sku}
    with transaction(session) as here:
        for admin in admins:
            message = _message(texts, "low_stock", admin.locale, data)
            _insert(here, message, "email", admin.email, user_id=admin.user_id, event=event)


def queue_email(
    session: Session, *, to: str, subject: str, body: str, html: str | None, once: Once
) -> Notification:
    """Queue a mail in the sender's own words."""
    return _queue_direct(
        session, "email", to, Message(DIRECT, "", subject, {"body": body, "html": html}), once
    )


def queue_sms(session: Session, *, to: str, body: str, once: Once) -> Notification:
    """Queue a text message in the sender's own words."""
    message = Message(DIRECT, "", one_line(body)[:80], {"body": body})
    return _queue_direct(session, "sms", to, message, once)


def queue_push(
    session: Session, *, user_id: int, title: str, body: str, url: str | None, once: Once
) -> Notification:
    """Queue a push message to all browsers of a user."""
    message = Message(DIRECT, "", title, {"body": body, "url": url})
    return _queue_direct(session, "push", push_recipient(user_id), message, once, user_id=user_id)


def push_recipient(user_id: int) -> str:
    """Name the recipient of a push message: the user, whose browsers are looked up when it is sent."""
    return f"user:{user_id}"


def _queue_direct(
    session: Session, channel: str, recipient: str, message: Message, once: Once, user_id: int | None = None
) -> Notification:
    with transaction(session) as here:
        notification_id = once.claim(here)
        _insert(here, message, channel, recipient, notification_id=notification_id, user_id=user_id)
        queued = here.get_one(Notification, notification_id)
        once.reply(here, 202, queued)
    return queued


def _ways_to(session: Session, person: Person) -> list[tuple[str, str]]:
    """List channel and recipient of every way to a user."""
    ways = [("email", person.email)]
    if person.phone and is_phone(person.phone):
        ways.append(("sms", person.phone))
    subscribed = select(PushSubscription.id).where(PushSubscription.user_id == person.user_id).limit(1)
    if session.scalar(subscribed) is not None:
        ways.append(("push", push_recipient(person.user_id)))
    return ways


def _message(texts: Texts, template: str, locale: str, data: Mapping[str, Any]) -> Message:
    known = locale or DEFAULT_LOCALE
    return Message(template, known, texts.subject(template, known, data), data)


def _insert(
    session: Session,
    message: Message,
    channel: str,
    recipient: str,
    *,
    user_id: int | None,
    notification_id: UUID | None = None,
    event: Envelope | None = None,
    status: str = "queued",
) -> None:
    """Insert a notification, unless the event has made it before."""
    statement = insert(Notification).values(
        id=notification_id or uuid7(),
        user_id=user_id,
        channel=channel,
        recipient=recipient,
        template=message.template,
        locale=message.locale,
        subject=message.subject,
        data=dict(message.data),
        status=status,
        event_id=event.id if event else None,
        event_type=event.type if event else None,
        request_id=context.request_id.get(),
        traceparent=context.traceparent.get(),
    )
    session.execute(statement.on_conflict_do_nothing())
