"""The tables: notifications, the own copy of users, preferences, push subscriptions and key."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    SmallInteger,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from chassis.db import make_db
from notification_service.errors import NotificationNotFailed, OutcomeUnknown, TemporaryFailure

GIVE_UP_AFTER = timedelta(hours=24)
MAX_ERROR = 500

db = make_db()
Model: Any = db.Model


class Notification(Model):
    """One message to one recipient by one channel; this row is the truth about it."""

    __tablename__ = "notifications"
    __table_args__ = (
        UniqueConstraint("event_id", "channel", "recipient", name="uq_notifications_event_channel_recipient"),
        CheckConstraint("channel IN ('email', 'sms', 'push')", name="channel"),
        CheckConstraint("status IN ('queued', 'sending', 'sent', 'failed', 'suppressed')", name="status"),
        Index("ix_notifications_user", "user_id", "id"),
        Index("ix_notifications_status", "status", "id"),
        Index("ix_notifications_event_type", "event_type", "id"),
        Index("ix_notifications_channel", "channel", "id"),
        Index("ix_notifications_due", "next_attempt_at", postgresql_where=text("status = 'queued'")),
        Index("ix_notifications_claimed", "claimed_at", postgresql_where=text("status = 'sending'")),
    )

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    user_id: Mapped[int | None] = mapped_column(BigInteger)
    channel: Mapped[str] = mapped_column(Text)
    recipient: Mapped[str] = mapped_column(Text)
    template: Mapped[str] = mapped_column(Text)
    locale: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(Text)
    # What the template shows: the event's data or the sender's text; never a token.
    data: Mapped[dict[str, Any]] = mapped_column(JSONB)
    status: Mapped[str] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    # The attempts of which nobody knows whether the message has arrived.
    doubts: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    last_error: Mapped[str | None] = mapped_column(Text)
    event_id: Mapped[UUID | None] = mapped_column(Uuid)
    event_type: Mapped[str | None] = mapped_column(Text)
    request_id: Mapped[str] = mapped_column(Text, server_default="")
    traceparent: Mapped[str] = mapped_column(Text, server_default="")
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    next_attempt_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    give_up_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=text("now() + interval '24 hours'")
    )
    dispatched_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    claimed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    sent_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    def claim(self, now: datetime, *, claim_seconds: float) -> bool:
        """Take this notification to send it; False when it is not due or somebody else holds it."""
        due = self.status == "queued" and self.next_attempt_at <= now
        abandoned = self.status == "sending" and self._is_claim_older(now, claim_seconds)
        if not (due or abandoned):
            return False
        if abandoned and now >= self.give_up_at:
            self.fail(f"given up after {self.attempts} attempts: each ended without an outcome")
            return False
        self.status, self.claimed_at, self.attempts = "sending", now, self.attempts + 1
        return True

    def _is_claim_older(self, now: datetime, seconds: float) -> bool:
        """Tell whether the claim is so old that its holder must have died."""
        return self.claimed_at is None or self.claimed_at < now - timedelta(seconds=seconds)

    def is_claimed_since(self, claimed_at: datetime) -> bool:
        """Tell whether the claim of that moment still holds."""
        return self.status == "sending" and self.claimed_at == claimed_at

    def mark_sent(self, now: datetime) -> None:
        """Note that the recipient's side has it."""
        self.status, self.sent_at, self.claimed_at, self.last_error = "sent", now, None, None

    def postpone(self, now: datetime, error: TemporaryFailure) -> None:
        """Try again later, for 24 hours: after the error's first wait, doubling up to its longest."""
        count = self.attempts
        if isinstance(error, OutcomeUnknown):
            # What surely failed before has left no copy that would be a reason to wait.
            count = self.doubts = self.doubts + 1
        if now >= self.give_up_at:
            self.fail(f"given up after {self.attempts} attempts: {error}")
            return
        wait = min(error.longest_wait, error.first_wait * 2.0 ** min(count - 1, 10))
        self.status, self.claimed_at, self.dispatched_at = "queued", None, None
        self.next_attempt_at = min(now + timedelta(seconds=wait), self.give_up_at)
        self.last_error = str(error)[:MAX_ERROR]

    def fail(self, reason: str) -> None:
        """End it: another attempt would fail again."""
        self.status, self.claimed_at, self.last_error = "failed", None, reason[:MAX_ERROR]

    def retry(self, now: datetime) -> None:
        """Queue a failed one again, with another 24 hours."""
        if self.status != "failed":
            raise NotificationNotFailed
        self.status, self.next_attempt_at, self.dispatched_at = "queued", now, None
        self.give_up_at = now + GIVE_UP_AFTER


class Person(Model):
    """The own copy of a user, kept by events; `sequence` is the newest event's, 0 for an asked one."""

    __tablename__ = "people"

    user_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    username: Mapped[str] = mapped_column(Text)
    email: Mapped[str] = mapped_column(Text)
    phone: Mapped[str | None] = mapped_column(Text)
    locale: Mapped[str] = mapped_column(Text)
    role: Mapped[str] = mapped_column(Text)
    active: Mapped[bool]
    sequence: Mapped[int] = mapped_column(BigInteger)


class Preferences(Model):
    """Which optional messages a user gets; no row means all."""

    __tablename__ = "preferences"

    user_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    email: Mapped[bool]
    sms: Mapped[bool]
    push: Mapped[bool]


class PushSubscription(Model):
    """A browser that gets a user's push messages."""

    __tablename__ = "push_subscriptions"
    __table_args__ = (Index("ix_push_subscriptions_user", "user_id", "id"),)

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    user_id: Mapped[int] = mapped_column(BigInteger)
    endpoint: Mapped[str] = mapped_column(Text, unique=True)
    p256dh: Mapped[str] = mapped_column(Text)
    auth: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class PushDelivery(Model):
    """A subscription that a notification has reached, so that another attempt leaves it out."""

    __tablename__ = "push_deliveries"

    notification_id: Mapped[UUID] = mapped_column(
        Uuid, ForeignKey("notifications.id", ondelete="CASCADE"), primary_key=True
    )
    subscription_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    delivered_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class PushKey(Model):
    """The VAPID key that was made at first start, when the settings name none."""

    __tablename__ = "push_key"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    private_key: Mapped[str] = mapped_column(Text)
