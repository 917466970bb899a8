"""The inbox: an event's effect and the note that it was handled are one transaction."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Boolean, Index, Integer, Text, Uuid, delete, func, select
from sqlalchemy.dialects.postgresql import TIMESTAMP, insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from chassis.broker import BrokerAway
from chassis.db import Base, is_database_away, transaction
from chassis.errors import DependencyAway
from chassis.events import Envelope

MAX_ATTEMPTS = 5
KEPT = timedelta(days=30)
PURGE_BATCH = 10_000

Effect = Callable[[Session, Envelope], object]


@dataclass(frozen=True)
class Asking:
    """An effect that needs to know something of another service, which is asked before the transaction.

    A call inside it would hold its locks and its connection for as long as the other side thinks.
    """

    ask: Callable[[Session, Envelope], Any]
    effect: Callable[[Session, Envelope, Any], object]


Handler = Effect | Asking


class InboxEntry(Base):
    """An event whose effect this consumer has made."""

    __tablename__ = "inbox"
    __table_args__ = (Index("ix_inbox_received_at", "received_at"),)

    consumer: Mapped[str] = mapped_column(Text, primary_key=True)
    event_id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    received_at: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True), server_default=func.now())


class InboxFailure(Base):
    """A message that failed by itself: how often, and why the last time."""

    __tablename__ = "inbox_failures"

    consumer: Mapped[str] = mapped_column(Text, primary_key=True)
    message_id: Mapped[str] = mapped_column(Text, primary_key=True)
    attempts: Mapped[int] = mapped_column(Integer)
    dead: Mapped[bool] = mapped_column(Boolean)
    last_error: Mapped[str] = mapped_column(Text)
    updated_at: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True))


@dataclass(frozen=True)
class Consumer:
    """Which function reacts to which event of a queue; events without one are left aside."""

    queue: str
    handlers: Mapping[str, Handler]
    prefetch: int = 20


def receive(session: Session, queue: str, event: Envelope, handler: Handler) -> bool:
    """Make an event's effect once; return False when it was made before."""
    effect = _ask(session, event, handler) if isinstance(handler, Asking) else handler
    with transaction(session) as here:
        # First of all, so that a second delivery at the same moment waits here for the first one's end.
        claim = insert(InboxEntry).values(consumer=queue, event_id=event.id).on_conflict_do_nothing()
        if here.execute(claim.returning(InboxEntry.event_id)).first() is None:
            return False
        effect(here, event)
    return True


def _ask(session: Session, event: Envelope, handler: Asking) -> Effect:
    answer = handler.ask(session, event)
    return lambda here, event: handler.effect(here, event, answer)


def note_failure(session: Session, queue: str, message_id: str, reason: str, *, limit: int) -> InboxFailure:
    """Count one more failure of a message; it is dead once there are as many as `limit`."""
    with transaction(session) as here:
        failure = here.get(InboxFailure, (queue, message_id))
        if failure is None:
            failure = InboxFailure(consumer=queue, message_id=message_id, attempts=0, dead=False)
            here.add(failure)
        # A dead message that is back was put back by an operator, and has all its attempts again.
        failure.attempts = 1 if failure.dead else failure.attempts + 1
        failure.dead = failure.attempts >= limit
        failure.last_error = reason
        failure.updated_at = here.scalars(select(func.now())).one()
    return failure


def failure_reasons(session: Session, queue: str) -> dict[str, str]:
    """Return why each failed message of a queue failed last, by message id."""
    statement = select(InboxFailure.message_id, InboxFailure.last_error).where(InboxFailure.consumer == queue)
    return dict(session.execute(statement).all())


def purge_inbox(session: Session) -> bool:
    """Forget events handled more than 30 days ago; return True when there may be more."""
    old = (
        select(InboxEntry.consumer, InboxEntry.event_id)
        .where(InboxEntry.received_at < func.now() - KEPT)
        .limit(PURGE_BATCH)
        .cte()
    )
    with transaction(session) as here:
        gone = here.execute(
            delete(InboxEntry)
            .where(InboxEntry.consumer == old.c.consumer, InboxEntry.event_id == old.c.event_id)
            .returning(InboxEntry.event_id)
        ).all()
        here.execute(
            delete(InboxFailure).where(
                InboxFailure.updated_at < func.now() - KEPT, InboxFailure.dead.is_(False)
            )
        )
    return len(gone) == PURGE_BATCH


# Not yet migrated, not yet permitted, or a standby that takes no writes: what the next minute may change.
_SCHEMA_BEHIND = {"42P01", "42703", "42501", "25006"}
_PROGRAM_LIMIT = "54"


def is_surroundings(error: BaseException) -> bool:
    """Tell a failure of the surroundings from one of the message itself."""
    if isinstance(error, (DependencyAway, BrokerAway, ConnectionError, TimeoutError)):
        return True
    code: Any = getattr(getattr(error, "orig", error), "pgcode", None) or ""
    if code.startswith(_PROGRAM_LIMIT):
        # The driver calls this one operational, yet a value too long for an index is the message's.
        return False
    return code in _SCHEMA_BEHIND or is_database_away(error)
