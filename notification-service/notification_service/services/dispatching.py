"""The sweep: a task for every notification that is due, and again for what was left lying."""

import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from chassis.db import transaction
from chassis.errors import DependencyAway
from chassis.logs import get_logger

BATCH = 100
# Tasks that wait in the queue at once; more would only be sent twice when they wait for longer.
WINDOW = 500
GAP_SECONDS = 5.0
# A broker that takes its time must not keep the sweep from giving signs of life; less than the gap.
TURN_SECONDS = 4.0
GRACE_SECONDS = 10.0

log = get_logger(__name__)

# Sends one task (notification id, request id, traceparent) or raises `DependencyAway`.
SendTask = Callable[[UUID, str, str], None]

# Taken in the order in which they became due; rows that another sweep holds are left to it.
_TAKE_DUE = text(
    """
    UPDATE notifications SET dispatched_at = now() WHERE id IN (
        SELECT id FROM notifications
        WHERE status = 'queued' AND next_attempt_at <= now()
        AND (dispatched_at IS NULL OR dispatched_at < now() - :dispatch_seconds * interval '1 second')
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
        AND (dispatched_at IS NULL OR dispatched_at < now() - :claim_seconds * interval '1 second')
        ORDER BY claimed_at LIMIT :room FOR UPDATE SKIP LOCKED
    )
    RETURNING id, request_id, traceparent, dispatched_at, next_attempt_at
    """
)

_WAITING = text(
    """
    SELECT count(*) FROM notifications
    WHERE status = 'queued' AND next_attempt_at <= now()
    AND dispatched_at >= now() - :dispatch_seconds * interval '1 second'
    """
)

# Not those that a task has meanwhile taken up and put back.
_GIVE_BACK = text(
    "UPDATE notifications SET dispatched_at = NULL WHERE id = ANY(:ids) AND dispatched_at = :dispatched_at"
)


class Sweep:
    """One worker's sweep."""

    def __init__(self, send_task: SendTask, *, dispatch_seconds: float, claim_seconds: float) -> None:
        self._send_task = send_task
        self._seconds = {"dispatch_seconds": dispatch_seconds, "claim_seconds": claim_seconds}
        self._swept_at: float | None = None
        self._grace_ends = float("-inf")

    def __call__(self, session: Session) -> bool:
        """Send a task for each notification that is due; return True when there may be more."""
        is_more = self._send(session, self._take(session))
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
                self._send_task(row.id, row.request_id, row.traceparent)
            except DependencyAway as error:
                # Tried again at the next sweep, half a second from now, however long the broker is away.
                self._give_back(session, taken[place:])
                log.warning("notifications not dispatched", count=len(taken) - place, reason=str(error))
                return False
        if taken:
            log.info("notifications dispatched", count=len(taken))
        return len(taken) >= BATCH

    def _take(self, session: Session) -> Sequence[Any]:
        may_take_claims = self._may_take_claims()
        with transaction(session) as here:
            waiting = here.execute(_WAITING, self._seconds).scalar_one()
            values = {**self._seconds, "room": max(0, min(BATCH, WINDOW - waiting))}
            rows = list(here.execute(_TAKE_DUE, values))
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
