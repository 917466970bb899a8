"""The sweep: a task for every notification that is due, and again for what was left lying."""

import time
from collections.abc import Sequence
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from chassis.db import transaction
from chassis.errors import DependencyAway
from chassis.logs import get_logger

BATCH = 100
# Tasks that wait in the queue at once; what comes later waits in the table, however long the queue stands.
WINDOW = 500
GAP_SECONDS = 5.0
# A broker that takes its time must not keep the sweep from giving signs of life; less than the gap.
TURN_SECONDS = 4.0
GRACE_SECONDS = 10.0

log = get_logger(__name__)


class Tasks(Protocol):
    """The queue of tasks; each call raises `DependencyAway` when the broker does not answer."""

    def send(self, notification_id: UUID, request_id: str, traceparent: str) -> None:
        """Send one notification's task."""

    def count(self) -> int:
        """Count the tasks that wait for somebody to take them up."""


_LOOK = text(
    """
    SELECT
    EXISTS (
        SELECT FROM notifications
        WHERE status = 'queued' AND next_attempt_at <= now() AND dispatched_at IS NULL
    ) AS is_due,
    EXISTS (
        SELECT FROM notifications
        WHERE status = 'queued' AND next_attempt_at <= now()
        AND dispatched_at < now() - :dispatch_seconds * interval '1 second'
    ) OR EXISTS (
        SELECT FROM notifications
        WHERE status = 'sending' AND claimed_at < now() - :claim_seconds * interval '1 second'
        AND dispatched_at > claimed_at AND dispatched_at < now() - :claim_seconds * interval '1 second'
    ) AS is_overdue,
    EXISTS (
        SELECT FROM notifications
        WHERE status = 'sending' AND claimed_at < now() - :claim_seconds * interval '1 second'
        AND (dispatched_at IS NULL OR dispatched_at <= claimed_at)
    ) AS is_abandoned
    """
)

# Taken in the order in which they became due; rows that another sweep holds are left to it. A task
# that was sent long ago is only lost when none waits any more.
_TAKE_DUE = text(
    """
    UPDATE notifications SET dispatched_at = now() WHERE id IN (
        SELECT id FROM notifications
        WHERE status = 'queued' AND next_attempt_at <= now()
        AND (
            dispatched_at IS NULL
            OR (:is_empty AND dispatched_at < now() - :dispatch_seconds * interval '1 second')
        )
        ORDER BY next_attempt_at LIMIT :room FOR UPDATE SKIP LOCKED
    )
    RETURNING id, request_id, traceparent, dispatched_at, next_attempt_at
    """
)

_TAKE_ABANDONED = text(
    """
    UPDATE notifications SET dispatched_at = now() WHERE id IN (
        SELECT id FROM notifications
        WHERE status = 'sending' AND claimed_at < now() - :claim_seconds * interval '1 second'
        AND (
            dispatched_at IS NULL OR dispatched_at <= claimed_at
            OR (:is_empty AND dispatched_at < now() - :claim_seconds * interval '1 second')
        )
        ORDER BY claimed_at LIMIT :room FOR UPDATE SKIP LOCKED
    )
    RETURNING id, request_id, traceparent, dispatched_at, next_attempt_at
    """
)

# Not those that a task has meanwhile taken up and put back.
_GIVE_BACK = text(
    "UPDATE notifications SET dispatched_at = NULL WHERE id = ANY(:ids) AND dispatched_at = :dispatched_at"
)


class Sweep:
    """One worker's sweep."""

    def __init__(self, tasks: Tasks, *, dispatch_seconds: float, claim_seconds: float) -> None:
        self._tasks = tasks
        self._seconds = {"dispatch_seconds": dispatch_seconds, "claim_seconds": claim_seconds}
        self._swept_at: float | None = None
        self._grace_ends = float("-inf")

    def __call__(self, session: Session) -> bool:
        """Send a task for each notification that is due; return True when there may be more."""
        try:
            taken = self._take(session)
        except DependencyAway as error:
            taken = []
            log.warning("notifications not dispatched", reason=str(error))
        is_more = self._send(session, taken)
        # What a slow broker took of this turn was no time without database.
        self._swept_at = time.monotonic()
        return is_more

    def _send(self, session: Session, taken: Sequence[Any]) -> bool:
        ends = time.monotonic() + TURN_SECONDS
        for place, row in enumerate(taken):
            if time.monotonic() > ends:
                self._give_back(session, taken[place:])
                log.info("notifications dispatched", count=place)
                return True
            try:
                self._tasks.send(row.id, row.request_id, row.traceparent)
            except DependencyAway as error:
                # Tried again at the next sweep, half a second from now, however long the broker is away.
                self._give_back(session, taken[place:])
                log.warning("notifications not dispatched", count=len(taken) - place, reason=str(error))
                return False
        if taken:
            log.info("notifications dispatched", count=len(taken))
        return len(taken) >= BATCH

    def _take(self, session: Session) -> Sequence[Any]:
        """Take the rows that get a task now, as many as the window has room for."""
        may_take_claims = self._may_take_claims()
        with transaction(session) as here:
            seen = here.execute(_LOOK, self._seconds).one()
        self._swept_at = time.monotonic()
        if not (seen.is_due or seen.is_overdue or seen.is_abandoned):
            return []
        # Outside any transaction: the broker may take its time.
        waiting = self._tasks.count()
        room = max(0, min(BATCH, WINDOW - waiting))
        values: dict[str, Any] = {**self._seconds, "is_empty": waiting == 0, "room": room}
        # While a task may be lost, new ones wait for the queue to show it by running empty.
        is_held_back = seen.is_overdue and waiting
        with transaction(session) as here:
            rows = [] if is_held_back else list(here.execute(_TAKE_DUE, values))
            if may_take_claims:
                rows += here.execute(_TAKE_ABANDONED, values)
        self._swept_at = time.monotonic()
        return sorted(rows, key=lambda row: row.next_attempt_at)

    def _may_take_claims(self) -> bool:
        """Tell whether old claims may be taken over.

        After a time without database, the tasks that were sending then come first: they note what
        they have sent, so that nothing is sent again only because nobody could write it down.
        """
        now = time.monotonic()
        if self._swept_at is not None and now - self._swept_at > GAP_SECONDS:
            self._grace_ends = now + GRACE_SECONDS
        return now >= self._grace_ends

    def _give_back(self, session: Session, rows: Sequence[Any]) -> None:
        """Leave what could not be sent to the next sweep."""
        values = {"ids": [row.id for row in rows], "dispatched_at": rows[0].dispatched_at}
        with transaction(session) as here:
            here.execute(_GIVE_BACK, values)
