"""Dead letters: look at them, and put them back into the queue that they came from."""

import sys
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import click
import orjson
from flask import Flask

from chassis.broker import BrokerAway, Link, Message
from chassis.consuming import message_key
from chassis.db import database_needed, transaction
from chassis.errors import DependencyAway
from chassis.events import MalformedEvent, parse_cloudevent
from chassis.inbox import failure_reasons

AT_MOST = 1000


def take(link: Link, queue: str, at_most: int = AT_MOST) -> list[Message]:
    """Take a queue's dead letters, oldest first; all that are not answered go back when `link` closes."""
    dead = f"{queue}.dead"
    waiting = min(link.count(dead), at_most)
    messages: list[Message] = []
    if waiting:
        link.consume(dead, waiting, messages.append)
        link.pump(5.0, lambda: len(messages) >= waiting)
    return messages


def replay(link: Link, queue: str, messages: Sequence[Message]) -> None:
    """Put dead letters back into their queue."""
    for message in messages:
        # The dead-letter queue's own dead letters go back to where they came from: the broker moves the
        # message itself, confirmed, so that none is lost or doubled, and no right to publish is needed.
        link.reject(message)
    # An answer from behind the rejects says that the broker has them.
    link.count(queue)


def describe(message: Message, reasons: dict[str, str]) -> dict[str, Any]:
    """Return what an operator wants to know of a dead letter."""
    key = message_key(message)
    death: dict[str, Any] = (message.headers.get("x-death") or [{}])[0]
    facts: dict[str, Any] = {"id": key, "type": message.headers.get("task"), "subject": None}
    try:
        event = parse_cloudevent(message.body)
        facts |= {"id": str(event.id), "type": event.type, "subject": event.subject}
    except MalformedEvent:
        facts["type"] = facts["type"] or "malformed"
    reason = reasons.get(facts["id"]) or reasons.get(key) or death.get("reason") or "unknown"
    return facts | {"dead_since": death.get("time"), "reason": reason}


def register_commands(app: Flask) -> None:
    """Add `flask dead-letters` to the app."""

    @app.cli.group("dead-letters")
    def dead_letters() -> None:
        """Look at dead letters and put them back."""

    queue_option = click.option(
        "--queue", help="One queue, such as order.events; all of the service's if left out."
    )

    @dead_letters.command("list")
    @queue_option
    def list_(queue: str | None) -> None:
        """List the dead letters of the service's queues with their reasons."""
        for name, _link, messages in _open(app, queue):
            click.echo(f"{name}: {len(messages)}")
            reasons = _reasons(app, name)
            for message in messages:
                facts = describe(message, reasons)
                since = f"{facts['dead_since']:%Y-%m-%dT%H:%M:%SZ}" if facts["dead_since"] else "-"
                line = f"  {facts['id']}  {facts['type']}  {facts['subject'] or '-'}  {since}"
                click.echo(f"{line}  {facts['reason'].splitlines()[0]}")

    @dead_letters.command("show")
    @queue_option
    @click.option("--id", "message_id", required=True)
    def show(queue: str | None, message_id: str) -> None:
        """Show one dead letter whole."""
        for name, _link, messages in _open(app, queue):
            reasons = _reasons(app, name)
            for message in _chosen(messages, message_id):
                facts = describe(message, reasons) | {"queue": name, "headers": message.headers}
                click.echo(orjson.dumps(facts, default=str, option=orjson.OPT_INDENT_2).decode())
                click.echo(message.body.decode("utf-8", "backslashreplace"))
                return
        sys.exit(f"No dead letter {message_id}.")

    @dead_letters.command("replay")
    @queue_option
    @click.option("--id", "message_id", help="One message; all if left out.")
    def replay_(queue: str | None, message_id: str | None) -> None:
        """Put dead letters back into the queue that they came from, to be handled again."""
        done = 0
        for name, link, messages in _open(app, queue):
            chosen = _chosen(messages, message_id)
            replay(link, name, chosen)
            done += len(chosen)
            click.echo(f"{name}: {len(chosen)} put back")
        if message_id and not done:
            sys.exit(f"No dead letter {message_id}.")


def _reasons(app: Flask, queue: str) -> dict[str, str]:
    try:
        with database_needed(), transaction(app.extensions["sqlalchemy"].session) as session:
            return failure_reasons(session, queue)
    except DependencyAway:
        # The letters are the broker's: they can be looked at without their reasons.
        return {}


def _chosen(messages: Sequence[Message], message_id: str | None) -> list[Message]:
    return [m for m in messages if message_id is None or describe(m, {})["id"] == message_id]


def _open(app: Flask, queue: str | None) -> Any:
    """Yield each queue with its dead letters, which go back when the next one's turn comes."""
    settings = app.config["SETTINGS"]
    plan = app.extensions.get("worker")
    owned: list[str] = plan.queues if plan else []
    if queue is not None and queue not in owned:
        sys.exit(f"{queue} is no queue of {settings.service}; these are: {', '.join(owned) or 'none'}.")
    if not owned:
        click.echo(f"{settings.service} reads no queue.")
    try:
        for name in [queue] if queue else owned:
            with closing(Link(settings, f"{settings.service} dead letters")) as link:
                yield name, link, take(link, name)
    except BrokerAway as error:
        sys.exit(f"RabbitMQ: {error}")
