"""Idempotency keys: one key, one effect, and the same answer again for 24 hours."""

import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
from psycopg2 import errors as pg
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Index,
    String,
    Text,
    and_,
    case,
    delete,
    func,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Mapped, Session, mapped_column
from uuid_utils.compat import uuid7

from chassis.db import Base, transaction
from chassis.errors import Refusal

STALE = timedelta(seconds=15)
# When a claim was given up by who had it: whoever sends the key next need not wait.
FREED = datetime(1970, 1, 1, tzinfo=UTC)
REMEMBERED = timedelta(hours=24)
PURGED_AT_ONCE = 5000
REMEMBERED_REFUSALS = frozenset({402, 404, 409})

_KEY = re.compile(r"[\x21-\x7e]{1,255}\Z")


class IdempotencyKey(Base):
    """A key, who works on it, the id of what it makes, and the reply once there is one."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index(None, "created_at"),)

    user_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    owner: Mapped[UUID]
    resource_id: Mapped[UUID]
    claimed_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    status: Mapped[int | None]
    body: Mapped[str | None] = mapped_column(Text)
    location: Mapped[str | None] = mapped_column(Text)


class Replayed(Exception):
    """The key has a reply already; it is answered again."""

    def __init__(self, row: IdempotencyKey) -> None:
        super().__init__("replayed")
        self.status, self.body, self.location = row.status, row.body, row.location


class ClaimLost(Exception):
    """Another process took the claim over; this one must change nothing."""


def in_progress() -> Refusal:
    """Make the 409 of a key whose first request is still running."""
    return Refusal(
        409,
        "idempotency_in_progress",
        "A request with this Idempotency-Key is still running.",
        headers={"Retry-After": "2"},
    )


def checked_key(sent: str | None) -> str | None:
    """Return the header's key; raise 400 when it is not 1–255 visible ASCII characters."""
    if sent is not None and not _KEY.match(sent):
        raise Refusal(400, "invalid_idempotency_key", "An Idempotency-Key is 1–255 visible ASCII characters.")
    return sent


def fingerprint(method: str, path: str, body: bytes) -> str:
    """Return what a second use of the key must match: method, path and parsed body."""
    return hashlib.sha256(b"\0".join((method.encode(), path.encode(), body))).hexdigest()


class Once:
    """One request's hold on its key; without a key it only makes the id.

    A use-case calls `claim` in its first transaction and `reply` in its last; the edge
    remembers refusals and frees the key of what failed. What a use-case has begun outlives its failure:
    whoever sends the key again goes on with it, unless the use-case gave it up by `drop`.
    """

    def __init__(self, user_id: int, key: str | None, print_: str, render: Callable[[int, Any], str]) -> None:
        self.user_id, self.key, self.fingerprint, self._render = user_id, key, print_, render
        self.owner = uuid4()
        self.resumed = False
        self._settled = key is None

    def claim(self, session: Session) -> UUID:
        """Claim the key; return the id of what the request makes, a new one or the one begun before.

        Raises `Replayed`, 409 `idempotency_in_progress` or 422 `idempotency_key_reused`.
        """
        fresh = uuid7()
        if self.key is None:
            return fresh
        values = insert(IdempotencyKey).values(
            user_id=self.user_id,
            key=self.key,
            fingerprint=self.fingerprint,
            owner=self.owner,
            resource_id=fresh,
        )
        statement = values.on_conflict_do_update(
            index_elements=["user_id", "key"],
            set_={
                "owner": self.owner,
                "claimed_at": func.now(),
                # A reply is remembered for as long as any other, however late it comes.
                "created_at": func.now(),
                "fingerprint": self.fingerprint,
                # A key that is free may be used for something else, which goes on with nothing.
                "resource_id": case((self._is_same, IdempotencyKey.resource_id), else_=fresh),
            },
            where=IdempotencyKey.status.is_(None)
            & (self._is_free | ((IdempotencyKey.claimed_at < func.now() - STALE) & self._is_same)),
        ).returning(IdempotencyKey.resource_id)
        try:
            resource_id = session.scalar(statement)
        except OperationalError as error:
            # The first request holds the row in an open transaction.
            if isinstance(error.orig, pg.LockNotAvailable):
                raise in_progress() from error
            raise
        if resource_id is None:
            raise self.standing(session)
        self.resumed = resource_id != fresh
        return resource_id

    def replay(self, session: Session) -> None:
        """Raise what answers a key that has its reply, or was used for another request; claim nothing."""
        if self.key is None:
            return
        with transaction(session) as here:
            standing = self.standing(here)
        if isinstance(standing, Replayed) or standing.status != 409:
            raise standing

    def standing(self, session: Session) -> "Replayed | Refusal":
        """Return what answers a request that does not own its key."""
        row = session.get(IdempotencyKey, (self.user_id, self.key), populate_existing=True)
        if row is None or (row.status is None and row.claimed_at == FREED):
            return in_progress()
        if row.fingerprint != self.fingerprint:
            return Refusal(
                422, "idempotency_key_reused", "This Idempotency-Key was used for another request."
            )
        return in_progress() if row.status is None else Replayed(row)

    def drop(self, session: Session) -> None:
        """Forget the key in the transaction that gives up what was begun.

        Raises `ClaimLost` if the claim is.
        """
        if self.key is None:
            return
        gone = delete(IdempotencyKey).where(self._mine()).returning(IdempotencyKey.key)
        if session.scalar(gone) is None:
            raise ClaimLost

    def reply(self, session: Session, status: int, value: Any, location: str | None = None) -> None:
        """Store the reply in the use-case's last transaction; raise `ClaimLost` if the claim is."""
        self._store(session, status, self._render(status, value), location)

    def refuse(self, session: Session, status: int, body: dict[str, Any]) -> None:
        """Store a refusal in the transaction that makes it true."""
        self._store(session, status, orjson.dumps(body).decode(), None)

    def remember_refusal(self, session: Session, status: int, body: bytes) -> None:
        """Store a refusal whose transaction was rolled back, the claim maybe with it.

        Raises `ClaimLost` when another request with the key came in between: then that one's answer counts.
        """
        if self._settled:
            return
        self._settled = True
        values = insert(IdempotencyKey).values(
            user_id=self.user_id,
            key=self.key,
            fingerprint=self.fingerprint,
            owner=self.owner,
            resource_id=uuid7(),
            status=status,
            body=body.decode(),
        )
        statement = values.on_conflict_do_update(
            index_elements=["user_id", "key"],
            set_={
                "owner": self.owner,
                "fingerprint": self.fingerprint,
                "status": func.coalesce(IdempotencyKey.status, status),
                "body": func.coalesce(IdempotencyKey.body, body.decode()),
                "created_at": func.now(),
            },
            # The use-case may have stored it already.
            where=(IdempotencyKey.owner == self.owner) | (IdempotencyKey.status.is_(None) & self._is_free),
        )
        with transaction(session) as here:
            if here.scalar(statement.returning(IdempotencyKey.key)) is None:
                raise ClaimLost

    def free(self, session: Session) -> None:
        """Leave the key free after an answer that is not remembered."""
        if self._settled:
            return
        self._settled = True
        with transaction(session) as here:
            here.execute(update(IdempotencyKey).where(self._mine()).values(claimed_at=FREED))

    @property
    def _is_same(self) -> ColumnElement[bool]:
        """Tell whether the key's row is about the same request."""
        return IdempotencyKey.fingerprint == self.fingerprint

    @property
    def _is_free(self) -> ColumnElement[bool]:
        """Tell whether the key's row is one that nobody works on."""
        return IdempotencyKey.claimed_at == FREED

    def _mine(self) -> ColumnElement[bool]:
        """Tell the key's row while this request's claim stands and has no reply."""
        return and_(
            IdempotencyKey.user_id == self.user_id,
            IdempotencyKey.key == self.key,
            IdempotencyKey.owner == self.owner,
            IdempotencyKey.status.is_(None),
        )

    def _store(self, session: Session, status: int, body: str, location: str | None) -> None:
        if self.key is None:
            return
        statement = (
            update(IdempotencyKey)
            .where(self._mine())
            .values(status=status, body=body, location=location)
            .returning(IdempotencyKey.key)
        )
        if session.scalar(statement) is None:
            raise ClaimLost


def purge_keys(session: Session) -> bool:
    """Forget keys after 24 hours, also those that never got a reply; a periodic job of every service."""
    with transaction(session):
        old = (
            select(IdempotencyKey.user_id, IdempotencyKey.key)
            .where(IdempotencyKey.created_at < func.now() - REMEMBERED)
            .limit(PURGED_AT_ONCE)
            .cte("old")
        )
        gone = session.execute(
            delete(IdempotencyKey)
            .where(IdempotencyKey.user_id == old.c.user_id, IdempotencyKey.key == old.c.key)
            .returning(IdempotencyKey.key)
        ).all()
    return len(gone) == PURGED_AT_ONCE
