"""When the suite is at rest: nothing is left that it would still do by itself."""

import http.client
import time
from dataclasses import dataclass

import psycopg2

from deploy.setup.rabbitmq import BrokerError, Management
from tests.faults.stage import Stage

# As long must the queues be empty: it is also how often RabbitMQ counts its messages.
QUIET_SECONDS = 5.0
POLL_SECONDS = 0.25
# How a finding begins that tells of it.
NOT_AT_REST = "not at rest"
UNSENT = "SELECT count(*) FROM outbox"
# What may still be under way in a service, by its database.
UNDER_WAY = {
    "order": {
        "payments": "SELECT count(*) FROM payments WHERE status IN ('processing', 'requires_action')",
        "refunds": "SELECT count(*) FROM refunds WHERE status = 'processing'",
        "releases": "SELECT count(*) FROM releases",
        # Nobody pays any more, and all that is not paid expires soon.
        "unpaid orders": "SELECT count(*) FROM orders WHERE status = 'pending'",
        # Sending an order again with its key ends its intent, so that none waits for the sweep after 60 s.
        "intents": "SELECT count(*) FROM orders WHERE status = 'reserving'",
    },
    "notification": {
        "notifications": "SELECT count(*) FROM notifications WHERE status IN ('queued', 'sending')",
    },
}


@dataclass(frozen=True)
class Rest:
    """Whether the suite came to rest, after how many seconds of waiting, and what kept it longest."""

    reached: bool
    seconds: float
    last: str


def wait_for_rest(stage: Stage, until: float) -> Rest:
    """Wait until nothing has been under way for 5 s, which begin by that moment of the monotonic clock."""
    began = time.monotonic()
    quiet_since: float | None = None
    last = ""
    while True:
        left, now = find_unrest(stage), time.monotonic()
        if left:
            quiet_since, last = None, left
        elif quiet_since is None and now <= until:
            quiet_since = now
        elif quiet_since is not None and now - quiet_since >= QUIET_SECONDS:
            return Rest(True, now - began, last)
        # Quiet that began in time may show that it stays so; all else has no time beyond the end.
        if now > until and quiet_since is None:
            return Rest(False, now - began, last or "nobody looked before")
        time.sleep(POLL_SECONDS)


def find_unrest(stage: Stage) -> str:
    """Say what the suite would still do; nothing when it is at rest."""
    try:
        return _count_rows(stage) or _count_messages(stage)
    except psycopg2.OperationalError as error:
        return f"PostgreSQL: {error}".strip()
    except (OSError, http.client.HTTPException, BrokerError) as error:
        return f"RabbitMQ: {error}"


def _count_rows(stage: Stage) -> str:
    for service, way in stage.databases.items():
        questions = {"unsent events": UNSENT, **UNDER_WAY.get(service, {})}
        connection = psycopg2.connect(way, options="-c statement_timeout=5000")
        try:
            with connection, connection.cursor() as cursor:
                for name, question in questions.items():
                    cursor.execute(question)
                    if count := cursor.fetchall()[0][0]:
                        return f"{count} {name} of the {service} service"
        finally:
            connection.close()
    return ""


def _count_messages(stage: Stage) -> str:
    waiting = {queue: count for queue, count in count_messages(stage).items() if not queue.endswith(".dead")}
    return ", ".join(f"{count} messages in {queue}" for queue, count in waiting.items() if count)


def count_messages(stage: Stage) -> dict[str, int]:
    """Return how many messages each queue holds, those that are just being handled included."""
    queues = management(stage).get("queues")
    return {queue["name"]: queue.get("messages", 0) for queue in queues}


def management(stage: Stage) -> Management:
    """Return RabbitMQ's management API."""
    env = stage.env
    port = int(env["RABBITMQ_MANAGEMENT_PORT"])
    return Management("127.0.0.1", port, env["RABBITMQ_DEFAULT_USER"], env["RABBITMQ_DEFAULT_PASS"])
