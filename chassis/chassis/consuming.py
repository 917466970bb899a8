"""The consumer's loop: one queue, one connection, one thread."""

import hashlib
import heapq
import threading
from collections import deque
from collections.abc import Callable
from contextlib import closing
from time import monotonic

from flask import Flask

from chassis.backoff import Backoff
from chassis.broker import Link, Message
from chassis.context import bind_context
from chassis.events import Envelope, MalformedEvent, parse_cloudevent
from chassis.inbox import MAX_ATTEMPTS, Consumer, is_surroundings, note_failure, receive
from chassis.logs import get_logger

SURROUNDINGS_SECONDS = 30.0
IDLE_SECONDS = 1.0
RETRY_SECONDS = 0.2  # doubled with every attempt
MAX_REASON = 2000

log = get_logger(__name__)


class Receiver:
    """Takes a queue's messages one by one and answers each only after its transaction."""

    def __init__(
        self, app: Flask, consumer: Consumer, connect: Callable[[], Link], beat: Callable[[], None]
    ) -> None:
        self._app, self._consumer, self._connect, self._beat = app, consumer, connect, beat
        self._backoff = Backoff(SURROUNDINGS_SECONDS)
        self._arrived: deque[Message] = deque()
        self._later: list[tuple[float, int, Message]] = []

    def run(self, stop: threading.Event) -> None:
        """Consume until `stop`; raise when the broker is away, to be called again."""
        # What an earlier connection delivered is the broker's again.
        self._arrived.clear()
        self._later.clear()
        with closing(self._connect()) as link:
            link.consume(self._consumer.queue, self._consumer.prefetch, self._arrived.append)
            log.info("consumer active", queue=self._consumer.queue)
            while not stop.is_set():
                self._beat()
                if message := self._next():
                    self._settle(link, message, stop)
                    link.pump(0)
                else:
                    link.pump(self._idle_seconds(), lambda: bool(self._arrived) or stop.is_set())

    def _next(self) -> Message | None:
        if self._later and self._later[0][0] <= monotonic():
            return heapq.heappop(self._later)[2]
        return self._arrived.popleft() if self._arrived else None

    def _idle_seconds(self) -> float:
        return min(IDLE_SECONDS, self._later[0][0] - monotonic()) if self._later else IDLE_SECONDS

    def _settle(self, link: Link, message: Message, stop: threading.Event) -> None:
        """Bring one message to its end, however long its surroundings are away; unanswered on `stop`."""
        while True:
            try:
                attempts = self._handle(message)
                break
            except Exception as error:
                if not is_surroundings(error):
                    raise
                seconds = self._backoff.failed()
                log.warning("consumer waits", queue=self._consumer.queue, reason=str(error), seconds=seconds)
                self._wait(link, seconds, stop)
                if stop.is_set():
                    return
        self._backoff.worked()
        if attempts == 0:
            link.ack(message)
        elif attempts >= MAX_ATTEMPTS:
            link.reject(message)
        else:
            # Others pass meanwhile.
            heapq.heappush(self._later, (monotonic() + RETRY_SECONDS * 2**attempts, message.tag, message))

    def _wait(self, link: Link, seconds: float, stop: threading.Event) -> None:
        # Kept, not given back: each return would count towards the broker's delivery limit. What is
        # delivered meanwhile is bounded by the prefetch, and the heartbeats go on.
        ends = monotonic() + seconds
        while (left := ends - monotonic()) > 0 and not stop.is_set():
            self._beat()
            link.pump(min(left, IDLE_SECONDS))

    def _handle(self, message: Message) -> int:
        """Return 0 when the message is done with, else how often it has failed by itself."""
        try:
            event = parse_cloudevent(message.body)
        except MalformedEvent as error:
            return self._fail(message, message_key(message), error, limit=1)
        with bind_context(request_id=event.requestid, traceparent=event.traceparent):
            return self._make_effect(message, event)

    def _make_effect(self, message: Message, event: Envelope) -> int:
        handler = self._consumer.handlers.get(event.type)
        if handler is None:
            return 0
        facts = {"queue": self._consumer.queue, "type": event.type, "event_id": str(event.id)}
        try:
            with self._app.app_context():
                session = self._app.extensions["sqlalchemy"].session
                fresh = receive(session, self._consumer.queue, event, handler)
        except Exception as error:
            if is_surroundings(error):
                raise
            attempts = self._fail(message, str(event.id), error, limit=MAX_ATTEMPTS)
            log.exception("event failed", attempts=attempts, **facts)
            return attempts
        log.info("event handled" if fresh else "event known already", subject=event.subject, **facts)
        return 0

    def _fail(self, message: Message, message_id: str, error: Exception, *, limit: int) -> int:
        reason = f"{type(error).__name__}: {error}"[:MAX_REASON].replace("\0", "\\0")
        reason = reason.encode("utf-8", "backslashreplace").decode()
        with self._app.app_context():
            session = self._app.extensions["sqlalchemy"].session
            failure = note_failure(session, self._consumer.queue, message_id, reason, limit=limit)
            attempts, dead = failure.attempts, failure.dead
        if dead:
            log.error("message set aside", queue=self._consumer.queue, message_id=message_id, reason=reason)
        return MAX_ATTEMPTS if dead else attempts


def message_key(message: Message) -> str:
    """Return the id under which a message's failures are counted, also when it has none of its own."""
    plain = message.message_id.isprintable() and len(message.message_id) <= 255
    if message.message_id and plain:
        return message.message_id
    return "sha256:" + hashlib.sha256(message.body).hexdigest()
