"""The relay: takes events from the outbox to the broker, each at least once, in order per subject."""

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol

import click
from flask import Flask
from sqlalchemy import Connection, Engine, text
from sqlalchemy.orm import Session

from chassis.backoff import pause
from chassis.broker import BrokerAway, BrokerRefused, Confirm
from chassis.db import database_needed
from chassis.errors import DependencyAway
from chassis.events import encode_cloudevent
from chassis.logs import get_logger

LOCK = 7_306_002
IDLE_SECONDS = 0.1
BATCH = 500
PER_SUBJECT = 100  # rows of one subject in a batch, so that a busy one leaves room for others
RETRIES = 50  # rows of a batch that failed before
SUCCESSOR_SECONDS = 1.0
CONFIRM_SECONDS = 10.0
SETTLE_SECONDS = 2.0
STUCK_SECONDS = 60
LOGGED = ("type", "subject", "sequence", "id", "request_id", "traceparent")

log = get_logger(__name__)

# A server that lost us must not keep our lock: it notices a dead peer within 20 s, and a process that was
# paused within 15 s. And it goes through indexes row by row: the statistics of a table that is empty most of
# the time would have it read all of a backlog for every batch.
_SESSION = (
    "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; "
    "SET idle_session_timeout = '15s'; SET enable_seqscan = off; "
    "SET enable_bitmapscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off"
)

# A few of those that failed and are due again, and the oldest of the others. Apart, because thousands
# that fail would otherwise stand before everything else at every poll.
_LOAD = text(
    """
    SELECT events.* FROM (
        (
            SELECT sequence FROM outbox WHERE next_attempt_at <= now()
            ORDER BY next_attempt_at LIMIT :retries
        )
        UNION ALL
        (
            SELECT sequence FROM (
                SELECT sequence, row_number() OVER (PARTITION BY subject ORDER BY sequence) AS place FROM (
                    SELECT sequence, subject FROM outbox
                    WHERE next_attempt_at IS NULL AND NOT EXISTS (
                        SELECT FROM outbox AS held
                        WHERE held.subject = outbox.subject AND held.next_attempt_at IS NOT NULL
                    )
                    ORDER BY sequence LIMIT :window
                ) AS oldest
            ) AS fair
            WHERE place <= :per_subject ORDER BY sequence LIMIT :batch
        )
    ) AS due JOIN events USING (sequence) ORDER BY sequence
    """
)

_DELETE = text("DELETE FROM outbox WHERE sequence = ANY(:sequences)")

_HOLD = text(
    """
    UPDATE outbox SET attempts = attempts + 1, last_error = failed.reason,
        next_attempt_at = now() + least(5, 0.1 * power(2, least(attempts, 16))) * interval '1 second'
    FROM unnest(CAST(:sequences AS bigint[]), CAST(:reasons AS text[])) AS failed (sequence, reason)
    WHERE outbox.sequence = failed.sequence
    """
)


class Publishes(Protocol):
    """What the relay needs of a publisher."""

    def publish(self, *, routing_key: str, message_id: str, body: bytes) -> int: ...
    def pump(self, seconds: float) -> list[Confirm]: ...
    def close(self) -> None: ...


class Relay:
    """One of a service's relays; whoever holds the advisory lock works, the others wait for it."""

    def __init__(
        self,
        engine: Engine,
        connect: Callable[[], Publishes],
        source: str,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine, self._connect, self._source, self._beat = engine, connect, source, beat

    def run(self, stop: threading.Event) -> None:
        """Relay until `stop`; raise when database or broker is away, to be called again."""
        with self._own_connection() as connection:
            while not connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": LOCK}):
                pause(stop, 1.0, self._beat)
                if stop.is_set():
                    return
            with closing(self._connect()) as publisher:
                log.info("relay active")
                self._relay(connection, publisher, stop)

    @contextmanager
    def _own_connection(self) -> Iterator[Connection]:
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        # Never given back to the pool: whoever got it next would hold the lock without knowing.
        connection.detach()
        with closing(connection):
            connection.exec_driver_sql(_SESSION)
            yield connection

    def _relay(self, connection: Connection, publisher: Publishes, stop: threading.Event) -> None:
        # A broker in alarm takes connections and publishes nothing; one event finds out, not a batch.
        batch = 1
        while not stop.is_set():
            self._beat()
            rows = load(connection, batch)
            if rows:
                _Exchange(connection, publisher, self._source, self._beat).run(rows, stop)
            if len(rows) < min(batch, PER_SUBJECT):
                publisher.pump(IDLE_SECONDS)
            if rows:
                batch = BATCH


class _Exchange:
    """One batch: the first event of each subject is sent, its successor once that is confirmed."""

    def __init__(
        self, connection: Connection, publisher: Publishes, source: str, beat: Callable[[], None]
    ) -> None:
        self._connection, self._publisher, self._source, self._beat = connection, publisher, source, beat
        self._waiting: dict[str, deque[Any]] = {}
        self._in_flight: dict[int, Any] = {}
        self._confirmed: list[Any] = []
        self._failed: dict[int, str] = {}

    def run(self, rows: Sequence[Any], stop: threading.Event) -> None:
        """Send the batch; whatever interrupts it, what the broker confirmed is deleted."""
        for row in rows:
            self._waiting.setdefault(row.subject, deque()).append(row)
        try:
            for subject in self._waiting:
                self._send_next(subject)
            self._collect(stop)
        except BrokerRefused as error:
            self._failed |= {row.sequence: str(error) for row in self._in_flight.values()}
            raise
        finally:
            self._settle()

    def _send_next(self, subject: str) -> None:
        if self._waiting[subject]:
            row = self._waiting[subject].popleft()
            body = encode_cloudevent(row, self._source)
            tag = self._publisher.publish(routing_key=row.type, message_id=str(row.id), body=body)
            self._in_flight[tag] = row

    def _collect(self, stop: threading.Event) -> None:
        # Successors are sent for a second only: then newer subjects get their turn, and a process that
        # slept longer sends nothing more on a lock that it may have lost.
        started = heard = settled = monotonic()
        while self._in_flight:
            self._beat()
            # The server ends an idle session, and a batch that is never deleted comes again for ever.
            if monotonic() - settled > SETTLE_SECONDS:
                self._settle()
                settled = monotonic()
            for answer in self._publisher.pump(1.0):
                heard = monotonic()
                row = self._in_flight.pop(answer.tag)
                if answer.error:
                    self._failed[row.sequence] = answer.error
                    continue
                self._confirmed.append(row)
                if heard - started < SUCCESSOR_SECONDS and not stop.is_set():
                    self._send_next(row.subject)
            if monotonic() - heard > CONFIRM_SECONDS:
                raise BrokerAway("no confirm in time")

    def _settle(self) -> None:
        if self._confirmed:
            self._connection.execute(_DELETE, {"sequences": [row.sequence for row in self._confirmed]})
            for row in self._confirmed:
                log.info("event relayed", **{name: getattr(row, name) for name in LOGGED})
            self._confirmed.clear()
        if self._failed:
            reasons = list(self._failed.values())
            self._connection.execute(_HOLD, {"sequences": list(self._failed), "reasons": reasons})
            log.warning("events held back", count=len(reasons), reason=reasons[0])
            self._failed.clear()


def load(connection: Connection, batch: int = BATCH) -> Sequence[Any]:
    """Read the oldest events that may be sent now, no subject's later ones before its earlier."""
    limits = {"batch": batch, "per_subject": PER_SUBJECT, "window": 4 * batch, "retries": min(batch, RETRIES)}
    return connection.execute(_LOAD, limits).all()


@dataclass(frozen=True)
class OutboxStats:
    """How much is unsent, for how long, and how many events keep failing."""

    unsent: int
    lag_seconds: float
    stuck: int


def outbox_stats(session: Session) -> OutboxStats:
    """Measure the outbox; the cost grows with what is unsent, not with history."""
    statement = text(
        """
        SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0),
            count(*) FILTER (
                WHERE last_error IS NOT NULL AND created_at < now() - :stuck * interval '1 second'
            )
        FROM outbox
        """
    )
    unsent, lag, stuck = session.execute(statement, {"stuck": STUCK_SECONDS}).one()
    return OutboxStats(unsent, max(0.0, float(lag)), stuck)


def register_commands(app: Flask) -> None:
    """Add `flask outbox` to the app."""

    @app.cli.command("outbox")
    @click.option("--limit", default=50, show_default=True, help="How many stuck events to list.")
    def outbox(limit: int) -> None:
        """Show what is unsent, and why the events that keep failing do."""
        session = app.extensions["sqlalchemy"].session
        try:
            with database_needed():
                stats = outbox_stats(session)
                stuck = session.execute(_STUCK, {"limit": limit, "stuck": STUCK_SECONDS}).all()
        except DependencyAway as error:
            sys.exit(f"the {error.dependency} is away")
        click.echo(f"unsent {stats.unsent}  lag {stats.lag_seconds:.1f} s  stuck {stats.stuck}")
        for row in stuck:
            facts = f"{row.sequence}  {row.type}  {row.subject}  since {row.created_at:%Y-%m-%dT%H:%M:%SZ}"
            click.echo(f"{facts}  attempts {row.attempts}  {row.last_error}")


_STUCK = text(
    """
    SELECT sequence, type, outbox.subject, created_at, attempts, last_error
    FROM outbox JOIN events USING (sequence)
    WHERE last_error IS NOT NULL AND created_at < now() - :stuck * interval '1 second'
    ORDER BY sequence LIMIT :limit
    """
)
