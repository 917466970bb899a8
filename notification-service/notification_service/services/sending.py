"""Sending one notification: claim it, deliver it, note the outcome."""

import time
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from chassis.db import transaction
from chassis.errors import DependencyAway
from chassis.logs import get_logger
from notification_service.channels.email import Mailer
from notification_service.channels.push import Pusher, PushMessage, Target
from notification_service.channels.sms import SmsProvider
from notification_service.clients import UserService
from notification_service.errors import DeliveryError, PermanentFailure, SubscriptionGone, TemporaryFailure
from notification_service.models import Notification, PushDelivery, PushSubscription
from notification_service.rendering import Mail, Texts
from notification_service.services.patience import patiently
from notification_service.services.queueing import DIRECT
from notification_service.services.subscriptions import PushKeys, forget_subscription

# A claim that can't be made is made by the next task; an outcome that can't be noted means a second mail.
CLAIM_PATIENCE = 30.0
OUTCOME_PATIENCE = 300.0
# For all browsers of a push message; with the last one's own 10 s less than a claim counts.
PUSH_SECONDS = 20.0
# The purpose of the token that a mail carries, and where its link leads.
TOKENS = {
    "welcome": ("verification", "/verify-email?token="),
    "password_reset": ("recovery", "/reset-password?token="),
    "email_change": ("email_change", "/verify-email?token="),
}
ORDER_PATH = "/orders/"

log = get_logger(__name__)


@dataclass(frozen=True)
class Tools:
    """What sending needs; wired in `create_app`."""

    texts: Texts
    mailer: Mailer
    sms: SmsProvider
    pusher: Pusher
    push_keys: PushKeys
    users: UserService
    public_url: str
    claim_seconds: float


def send_notification(session: Session, notification_id: UUID, tools: Tools) -> None:
    """Send a notification if it is due and nobody else is at it."""
    claimed = patiently(
        session, lambda: _claim(session, notification_id, tools.claim_seconds), seconds=CLAIM_PATIENCE
    )
    if claimed is None:
        return
    error: DeliveryError | None = None
    try:
        _deliver(session, claimed, tools)
    except DeliveryError as failed:
        error = failed
    claimed_at = claimed.claimed_at
    assert claimed_at is not None
    patiently(session, lambda: _settle(session, notification_id, claimed_at, error), seconds=OUTCOME_PATIENCE)


def _claim(session: Session, notification_id: UUID, claim_seconds: float) -> Notification | None:
    with transaction(session) as here:
        found = here.execute(
            select(Notification, func.now()).where(Notification.id == notification_id).with_for_update()
        ).one_or_none()
        if found is None or not found[0].claim(found[1], claim_seconds=claim_seconds):
            return None
        claimed: Notification = found[0]
    # It stays as it was read, and no read of it opens a transaction while the message is on its way.
    session.expunge(claimed)
    return claimed


def _settle(
    session: Session, notification_id: UUID, claimed_at: datetime, error: DeliveryError | None
) -> None:
    """Note the outcome, unless the claim has passed to another task meanwhile."""
    with transaction(session) as here:
        notification, now = here.execute(
            select(Notification, func.now()).where(Notification.id == notification_id).with_for_update()
        ).one()
        if not notification.is_claimed_since(claimed_at):
            return
        if error is None:
            notification.mark_sent(now)
        elif isinstance(error, TemporaryFailure):
            notification.postpone(now, error)
        else:
            notification.fail(str(error))
    bound = log.bind(
        notification_id=str(notification_id),
        channel=notification.channel,
        status=notification.status,
        attempts=notification.attempts,
    )
    if error is None:
        bound.info("notification sent")
    else:
        bound.warning("notification not sent", reason=str(error))


def _deliver(session: Session, notification: Notification, tools: Tools) -> None:
    match notification.channel:
        case "email":
            mail = _write_mail(notification, tools)
            tools.mailer.send(notification.id, notification.recipient, mail)
        case "sms":
            tools.sms.send(notification.id, notification.recipient, _write_sms(notification, tools.texts))
        case "push":
            _push_to_browsers(session, notification, tools)


def _write_mail(notification: Notification, tools: Tools) -> Mail:
    data = notification.data
    if notification.template == DIRECT:
        return Mail(notification.subject, data["body"], data["html"])
    link = _token_link(notification, tools) if notification.template in TOKENS else ""
    return tools.texts.mail(notification.template, notification.locale, data, link=link)


def _token_link(notification: Notification, tools: Tools) -> str:
    """Ask for a fresh token; it lives in this mail alone, never in a row, a task or a log."""
    assert notification.user_id is not None
    purpose, path = TOKENS[notification.template]
    try:
        issued = tools.users.make_email_token(notification.user_id, purpose)
    except DependencyAway as error:
        raise TemporaryFailure(str(error)) from error
    # A token never goes to an address that the user has left meanwhile.
    if issued and issued.email == notification.recipient:
        return f"{tools.public_url}{path}{issued.token}"
    if notification.template == "welcome":
        return ""
    raise PermanentFailure("the user service gives no token for this address")


def _write_sms(notification: Notification, texts: Texts) -> str:
    if notification.template == DIRECT:
        body: str = notification.data["body"]
        return body
    return texts.sms(notification.template, notification.locale, notification.data)


def _write_push(notification: Notification, tools: Tools) -> PushMessage:
    data = notification.data
    if notification.template == DIRECT:
        return PushMessage(notification.id, notification.subject, data["body"], data["url"])
    title, body, order_id = tools.texts.push(notification.template, notification.locale, data)
    return PushMessage(notification.id, title, body, f"{tools.public_url}{ORDER_PATH}{order_id}")


def _push_to_browsers(session: Session, notification: Notification, tools: Tools) -> None:
    """Send to every browser that has not got it yet; sent means that at least one has it.

    Those that silent push services leave no time for have their turn at another attempt.
    """
    message = _write_push(notification, tools)
    private_key = tools.push_keys.private(session)
    reached, waiting = _browsers(session, notification)
    refused: list[DeliveryError] = []
    ends = time.monotonic() + PUSH_SECONDS
    for subscription_id, target in _from_another(waiting, notification.attempts):
        if time.monotonic() >= ends:
            refused.append(TemporaryFailure("the push services took too long"))
            break
        try:
            tools.pusher.send(private_key, target, message)
        except DeliveryError as error:
            refused.append(error)
            if isinstance(error, SubscriptionGone):
                forget_subscription(session, subscription_id)
        else:
            _note_delivery(session, notification.id, subscription_id)
            reached += 1
    for refusal in refused:
        if isinstance(refusal, TemporaryFailure):
            raise refusal
    if not reached:
        raise refused[0] if refused else PermanentFailure("the user has no push subscription")


def _from_another(waiting: dict[UUID, Target], attempts: int) -> list[tuple[UUID, Target]]:
    """Begin with another browser at every attempt, so that the same few never keep the rest waiting."""
    browsers = list(waiting.items())
    first = (attempts - 1) % len(browsers) if browsers else 0
    return browsers[first:] + browsers[:first]


def _browsers(session: Session, notification: Notification) -> tuple[int, dict[UUID, Target]]:
    """Return how many browsers have the message, and those that have not."""
    delivered = select(PushDelivery.subscription_id).where(PushDelivery.notification_id == notification.id)
    theirs = select(PushSubscription).where(PushSubscription.user_id == notification.user_id)
    with transaction(session) as here:
        reached = set(here.scalars(delivered))
        browsers = here.scalars(theirs.order_by(PushSubscription.id)).all()
    waiting = {b.id: Target(b.endpoint, b.p256dh, b.auth) for b in browsers if b.id not in reached}
    return len(reached), waiting


def _note_delivery(session: Session, notification_id: UUID, subscription_id: UUID) -> None:
    values = {"notification_id": notification_id, "subscription_id": subscription_id}

    def note() -> None:
        with transaction(session) as here:
            here.execute(insert(PushDelivery).values(values).on_conflict_do_nothing())

    patiently(session, note, seconds=OUTCOME_PATIENCE)
