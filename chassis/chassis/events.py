"""Events: recorded in the transaction that makes them true, sent as CloudEvents 1.0."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.orm import Mapped, Session, mapped_column
from uuid_utils.compat import uuid7

from chassis import context
from chassis.db import Base

# The relay holds 500 events at once, and a message too long for the broker would close its channel.
MAX_DATA = 256 * 1024


class Event(Base):
    """What happened, for ever: rows are only ever inserted."""

    __tablename__ = "events"
    __table_args__ = (
        Index("ix_events_subject_sequence", "subject", "sequence"),
        CheckConstraint("octet_length(type) BETWEEN 1 AND 255", name="type_is_a_routing_key"),
    )

    sequence: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    id: Mapped[uuid.UUID] = mapped_column(Uuid, unique=True)
    type: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(Text)
    occurred_at: Mapped[datetime] = mapped_column(
        TIMESTAMP(timezone=True), server_default=func.clock_timestamp()
    )
    data: Mapped[dict[str, Any]] = mapped_column(JSONB)
    request_id: Mapped[str] = mapped_column(Text, server_default="")
    traceparent: Mapped[str] = mapped_column(Text, server_default="")


class Unsent(Base):
    """An event that the broker has not confirmed yet; the row goes with the confirm."""

    __tablename__ = "outbox"
    __table_args__ = (
        Index("ix_outbox_fresh", "sequence", postgresql_where=text("next_attempt_at IS NULL")),
        Index("ix_outbox_held", "subject", postgresql_where=text("next_attempt_at IS NOT NULL")),
        Index("ix_outbox_due", "next_attempt_at", postgresql_where=text("next_attempt_at IS NOT NULL")),
        # Every row is soon dead; vacuum by their number, for the share of a big table would come too late.
        {"postgresql_with": {"autovacuum_vacuum_scale_factor": 0, "autovacuum_vacuum_threshold": 1000}},
    )

    sequence: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("events.sequence"), primary_key=True, autoincrement=False
    )
    subject: Mapped[str] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    next_attempt_at: Mapped[datetime | None] = mapped_column(TIMESTAMP(timezone=True))
    last_error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True), server_default=func.now())


@dataclass(frozen=True)
class NewEvent:
    """An event to record: `subject` is the id of what it happened to, `data` is plain JSON."""

    type: str
    subject: str
    data: Mapping[str, Any]


# One statement and one encoding, however many events. PostgreSQL draws an identity in the order of a
# sorted SELECT, so the events of one call keep their order.
_RECORD = text(
    """
    WITH recorded AS (
        INSERT INTO events (id, type, subject, data, request_id, traceparent)
        SELECT CAST(event->>'id' AS uuid), event->>'type', event->>'subject', event->'data',
               :request_id, :traceparent
        FROM jsonb_array_elements(CAST(:events AS jsonb)) WITH ORDINALITY AS given (event, place)
        ORDER BY place
        RETURNING sequence, subject
    )
    INSERT INTO outbox (sequence, subject) SELECT sequence, subject FROM recorded
    """
)


def record(session: Session, *events: NewEvent) -> None:
    """Record events in the session's transaction; what can't be encoded fails it.

    The caller has locked (or made) each subject's row, so that `sequence` follows the order of commits.
    """
    if not events:
        return
    # The sequence must be drawn after the subject's row is locked, and it is the pending writes that lock it.
    session.flush()
    session.execute(
        _RECORD,
        {
            "events": orjson.dumps([_encode(event) for event in events]).decode(),
            "request_id": context.request_id.get(),
            "traceparent": context.traceparent.get(),
        },
    )


_RESEND = text(
    """
    INSERT INTO outbox (sequence, subject) SELECT sequence, subject FROM events WHERE id = ANY(:ids)
    ON CONFLICT (sequence) DO NOTHING
    """
)


def resend(session: Session, ids: Sequence[uuid.UUID]) -> None:
    """Have the relay send events once more: the same ones, so that who knows them leaves them aside."""
    session.execute(_RESEND, {"ids": list(ids)})


def _encode(event: NewEvent) -> dict[str, Any]:
    data = orjson.dumps(dict(event.data), option=orjson.OPT_UTC_Z)
    if len(data) > MAX_DATA:
        raise ValueError(f"{event.type}: {len(data)} bytes of data are more than an event may carry")
    return {
        "id": str(uuid7()),
        "type": event.type,
        "subject": str(event.subject),
        "data": orjson.Fragment(data),
    }


class Envelope(BaseModel):
    """A received CloudEvent; members that we don't know are left aside."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    specversion: Literal["1.0"]
    id: uuid.UUID
    source: str = Field(min_length=1)
    type: str = Field(min_length=1)
    subject: str = Field(min_length=1)
    time: AwareDatetime
    datacontenttype: Literal["application/json"] = "application/json"
    data: dict[str, Any]
    sequence: int = Field(ge=1, strict=True)
    traceparent: str | None = None
    requestid: str | None = None


class MalformedEvent(ValueError):
    """A message that is no CloudEvent of ours."""


def to_cloudevent(event: Any, source: str) -> dict[str, Any]:
    """Make the CloudEvents 1.0 document of an event's row."""
    document = {
        "specversion": "1.0",
        "id": str(event.id),
        "source": source,
        "type": event.type,
        "subject": event.subject,
        "time": event.occurred_at,
        "datacontenttype": "application/json",
        "data": event.data,
        "sequence": event.sequence,
    }
    if event.traceparent:
        document["traceparent"] = event.traceparent
    if event.request_id:
        document["requestid"] = event.request_id
    return document


def encode_cloudevent(event: Any, source: str) -> bytes:
    """Make the body of the message that carries an event's row."""
    return orjson.dumps(to_cloudevent(event, source), option=orjson.OPT_UTC_Z)


def parse_cloudevent(body: bytes) -> Envelope:
    """Read a message's body, or raise `MalformedEvent` naming what is wrong with it."""
    try:
        return Envelope.model_validate_json(body)
    except ValidationError as error:
        problems = (
            f"{'.'.join(map(str, problem['loc'])) or 'body'}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False, include_context=False)
        )
        raise MalformedEvent("; ".join(problems)) from error
