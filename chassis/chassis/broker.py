"""The broker's protocol: the only module that knows pika.

Every connection here is driven by the thread that owns it, and every wait has an end: a broker that is
paused or cut off answers nothing, and no socket says so.
"""

import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import pika
from pika.adapters.select_connection import IOLoop
from pika.exceptions import AMQPError, ChannelClosedByBroker

from chassis.config import ServiceSettings

EXCHANGE = "ecommerce.events"
ANSWER_SECONDS = 5.0
CLOSE_SECONDS = 2.0
CONNECT_SECONDS = 15.0  # Only for a resolver that hangs; pika itself limits the steps after it.


class BrokerAway(Exception):
    """The broker can't be reached, does not answer, or the connection to it was lost."""


class BrokerRefused(BrokerAway):
    """The broker closed the channel: no such exchange or queue, or no permission."""


@dataclass(frozen=True)
class Message:
    """A delivered message."""

    tag: int
    body: bytes
    routing_key: str
    message_id: str
    headers: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Confirm:
    """The broker's answer to one published message; `error` is None when it has it."""

    tag: int
    error: str | None


def parameters(settings: ServiceSettings, name: str) -> pika.ConnectionParameters:
    """Return how to connect; `name` is shown on the management page."""
    return pika.ConnectionParameters(
        host=settings.amqp_host,
        port=settings.amqp_port,
        credentials=pika.PlainCredentials(settings.amqp_user, settings.amqp_password.get_secret_value()),
        heartbeat=30,
        blocked_connection_timeout=5,
        socket_timeout=3,
        stack_timeout=ANSWER_SECONDS,
        connection_attempts=1,
        client_properties={"connection_name": name},
        # A peer that vanished without a word is noticed by the kernel before the heartbeat notices.
        tcp_options={"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 25_000},
    )


class Link:
    """One connection with one channel; its callbacks run in `pump`, in the caller's thread."""

    def __init__(self, settings: ServiceSettings, name: str) -> None:
        self._loop = IOLoop()
        self._loop.activate_poller()
        self._lost: BrokerAway | None = None
        self._connection = self._connect(parameters(settings, name))
        self._connection.add_on_close_callback(self._on_lost)
        try:
            self.channel: Any = self.ask("open a channel", self._open_channel)
        except BaseException:
            self.close()
            raise
        self.channel.add_on_close_callback(self._on_channel_closed)
        self.channel.add_on_cancel_callback(lambda _frame: self._fail(BrokerAway("consumer cancelled")))

    def _connect(self, where: pika.ConnectionParameters) -> Any:
        results: list[Any] = []
        attempt = pika.SelectConnection.create_connection([where], results.append, custom_ioloop=self._loop)
        self._poll_until(lambda: bool(results), CONNECT_SECONDS)
        if results and isinstance(results[0], pika.SelectConnection):
            return results[0]
        if not results:
            # Aborting a handshake, which pika's own limits have ended by now, trips an assertion of pika's.
            with contextlib.suppress(AssertionError):
                attempt.abort()
                self._poll_until(lambda: bool(results), CLOSE_SECONDS)
        self._loop.close()
        raise BrokerAway(_cause(results[0]) if results else "the broker's name was not resolved in time")

    def _open_channel(self, done: Callable[[Any], None]) -> None:
        self._connection.channel(on_open_callback=done)

    def ask(self, what: str, question: Callable[[Callable[[Any], None]], Any]) -> Any:
        """Send a question to the broker and return its answer."""
        answers: list[Any] = []
        with _as_broker_away():
            question(answers.append)
        self._wait(lambda: bool(answers), what)
        return answers[0]

    def pump(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Send and receive for so long, or until something is so; raise `BrokerAway` when that is over."""
        ends = monotonic() + seconds
        while True:
            # What is so already must not wait for the next byte, which may be a heartbeat away.
            self._poll(0.0 if until() else max(0.0, ends - monotonic()))
            if self._lost:
                raise self._lost
            if until() or monotonic() >= ends:
                return

    def _wait(self, until: Callable[[], bool], what: str) -> None:
        self.pump(ANSWER_SECONDS, until)
        if not until():
            raise BrokerAway(f"no answer to: {what}")

    def _poll(self, seconds: float) -> None:
        alarm = self._loop.call_later(seconds, lambda: None)
        self._loop.poll()
        self._loop.process_timeouts()
        self._loop.remove_timeout(alarm)

    def count(self, queue: str) -> int:
        """Count the messages that wait in a queue; needs no permission on it."""
        answer = self.ask(
            f"count {queue}", lambda done: self.channel.queue_declare(queue, passive=True, callback=done)
        )
        return int(answer.method.message_count)

    def consume(self, queue: str, prefetch: int, deliver: Callable[[Message], None]) -> None:
        """Have the queue's messages delivered, so many at most without an answer."""
        self.ask(
            "limit prefetch", lambda done: self.channel.basic_qos(prefetch_count=prefetch, callback=done)
        )
        self.ask(
            f"consume {queue}",
            lambda done: self.channel.basic_consume(
                queue,
                lambda _channel, method, properties, body: deliver(_message(method, properties, body)),
                callback=done,
            ),
        )

    def ack(self, message: Message) -> None:
        """Tell the broker that the message is dealt with."""
        with _as_broker_away():
            self.channel.basic_ack(message.tag)

    def reject(self, message: Message) -> None:
        """Have the broker move the message to where its queue's dead letters go."""
        with _as_broker_away():
            self.channel.basic_reject(message.tag, requeue=False)

    def close(self) -> None:
        """Close the connection; what was delivered and not answered goes back to its queue."""
        connection = self._connection
        if not (connection.is_closed or connection.is_closing):
            connection.close()
        self._poll_until(lambda: connection.is_closed, CLOSE_SECONDS)
        if not connection.is_closed:
            # pika's own close waits for the broker's answer, and this broker gives none.
            connection._adapter_disconnect_stream()
            self._poll_until(lambda: connection.is_closed, CLOSE_SECONDS)
        self._loop.close()

    def _poll_until(self, done: Callable[[], bool], seconds: float) -> None:
        ends = monotonic() + seconds
        while not done() and (left := ends - monotonic()) > 0:
            self._poll(left)

    def _fail(self, error: BrokerAway) -> None:
        self._lost = self._lost or error

    def _on_lost(self, _connection: Any, reason: Any) -> None:
        self._fail(BrokerAway(_text(reason)))

    def _on_channel_closed(self, _channel: Any, reason: Any) -> None:
        refused = isinstance(reason, ChannelClosedByBroker)
        self._fail(BrokerRefused(_text(reason)) if refused else BrokerAway(_text(reason)))


class Publisher:
    """Publishes to the exchange and collects the broker's answers by delivery tag."""

    def __init__(self, settings: ServiceSettings, name: str) -> None:
        self._link = Link(settings, name)
        self._tag = 0
        self._answers: deque[Confirm] = deque()
        self._in_flight: dict[int, str] = {}
        self._returned: dict[str, str] = {}
        try:
            self._link.channel.add_on_return_callback(self._on_return)
            self._link.ask("confirm deliveries", self._confirm)
        except BaseException:
            self._link.close()
            raise

    def _confirm(self, done: Callable[[Any], None]) -> None:
        self._link.channel.confirm_delivery(self._on_answer, callback=done)

    def publish(self, *, routing_key: str, message_id: str, body: bytes) -> int:
        """Send one persistent, mandatory message and return its delivery tag."""
        properties = pika.BasicProperties(
            content_type="application/cloudevents+json", delivery_mode=2, message_id=message_id
        )
        with _as_broker_away():
            self._link.channel.basic_publish(EXCHANGE, routing_key, body, properties, mandatory=True)
        self._tag += 1
        self._in_flight[self._tag] = message_id
        return self._tag

    def pump(self, seconds: float) -> list[Confirm]:
        """Wait so long for answers and return those that came."""
        self._link.pump(seconds, lambda: bool(self._answers))
        answers = list(self._answers)
        self._answers.clear()
        return answers

    def close(self) -> None:
        """Close the connection."""
        self._link.close()

    def _on_return(self, _channel: Any, method: Any, properties: Any, _body: bytes) -> None:
        # A message that no queue takes is returned first and then confirmed like any other.
        self._returned[properties.message_id] = f"returned: {method.reply_code} {method.reply_text}"

    def _on_answer(self, frame: Any) -> None:
        method = frame.method
        refused = "refused by the broker" if isinstance(method, pika.spec.Basic.Nack) else None
        tags = [method.delivery_tag]
        if method.multiple:
            tags = [tag for tag in self._in_flight if tag <= method.delivery_tag]
        for tag in tags:
            returned = self._returned.pop(self._in_flight.pop(tag), None)
            self._answers.append(Confirm(tag, refused or returned))


def broker_reachable(settings: ServiceSettings) -> bool:
    """Tell whether the broker lets this service in."""
    try:
        Link(settings, f"{settings.service} check").close()
    except BrokerAway:
        return False
    return True


def _message(method: Any, properties: Any, body: bytes) -> Message:
    return Message(
        method.delivery_tag,
        body,
        method.routing_key,
        properties.message_id or "",
        dict(properties.headers or {}),
    )


def _cause(failure: Any) -> str:
    """Return what lies at the bottom of a failed attempt to connect."""
    if attempts := getattr(failure, "exceptions", ()):
        failure = attempts[-1]
    return _text(getattr(failure, "exception", failure))


def _text(reason: Any) -> str:
    return str(reason) or type(reason).__name__


@contextlib.contextmanager
def _as_broker_away() -> Any:
    try:
        yield
    except AMQPError as error:
        raise BrokerAway(_text(error)) from error
