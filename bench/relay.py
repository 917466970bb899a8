"""Measure the relay: how fast a backlog leaves the outbox, with and without a long history, and how long a
single event waits under load.

    python bench/relay.py [--events 20000] [--subjects 2000] [--history 1000000] [--rate 200]

It starts a PostgreSQL that waits for its disk and a RabbitMQ with the suite's quorum queues, both thrown away
at the end. It prints events per second and the relay's own CPU time for each, in a database without other
events and in one with so many that were sent before (the best of four rounds each); then the lag from commit
to confirm with that history. It fails when one is worse than promised.
"""

import argparse
import logging
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "chassis")]

import structlog  # noqa: E402
from pydantic import SecretStr  # noqa: E402
from sqlalchemy import Engine, create_engine, event, text  # noqa: E402
from sqlalchemy.orm import Session  # noqa: E402

from chassis.broker import Publisher  # noqa: E402
from chassis.config import ServiceSettings  # noqa: E402
from chassis.db import Base, transaction  # noqa: E402
from chassis.events import NewEvent, record  # noqa: E402
from chassis.outbox import Relay  # noqa: E402
from tests.servers import PostgresServer, RabbitMQServer, run_postgres, run_rabbitmq  # noqa: E402

HISTORY = text(
    "INSERT INTO events (id, type, subject, data) "
    "SELECT gen_random_uuid(), 'order.paid', n::text, '{}' FROM generate_series(1, :number) AS n"
)
DATA = {"text": "x" * 400}
# What is promised.
EVENTS_PER_SECOND, P50_MS, P99_MS = 1000, 250, 2000
# A cost that grew with the history would be many times as high; more than this is no noise.
MOST_WITH_HISTORY = 2
ROUNDS = 4


@dataclass(frozen=True)
class Cost:
    """What one event costs: time on the clock, and the relay's own CPU time."""

    seconds: float
    cpu: float

    def __str__(self) -> str:
        return f"{1 / self.seconds:,.0f} events/s, relay CPU {1e6 * self.cpu:.0f} µs an event"


class Settings(ServiceSettings):
    """The broker's login of one service."""

    service: ClassVar[str] = "order-service"


@contextmanager
def durable_postgres() -> Iterator[PostgresServer]:
    """Run a PostgreSQL that waits for its disk, as the tests' own does not."""
    with run_postgres() as server:
        for setting in ("fsync", "synchronous_commit", "full_page_writes", "autovacuum"):
            server.execute(f"ALTER SYSTEM SET {setting} = on")
        server.execute("SELECT pg_reload_conf()")
        yield server


def make_database(server: PostgresServer, name: str, history: int) -> Engine:
    """Make a database in which so many events were recorded and sent before."""
    engine = create_engine(server.make_database(name).url)
    Base.metadata.create_all(engine)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(HISTORY, {"number": history})
        # What autovacuum does some time after, and here would do in the middle.
        connection.execute(text("VACUUM (ANALYZE) events"))
        connection.execute(text("CHECKPOINT"))
    return engine


@contextmanager
def relaying(engine: Engine, broker: RabbitMQServer) -> Iterator[None]:
    """Run the relay for the block."""
    settings = Settings(
        db_name="",
        db_user="",
        db_password=SecretStr(""),
        amqp_port=broker.port,
        amqp_user="order_service",
        amqp_password=SecretStr(broker.service_password),
    )
    stop = threading.Event()
    relay = Relay(engine, lambda: Publisher(settings, "bench"), settings.service)
    thread = threading.Thread(target=relay.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def record_events(engine: Engine, number: int, subjects: int) -> None:
    """Record so many events in transactions of 500."""
    with Session(engine) as session:
        for start in range(0, number, 500):
            events = [NewEvent("order.paid", str(n % subjects), DATA) for n in range(start, start + 500)]
            with transaction(session) as here:
                record(here, *events)


def unsent(engine: Engine) -> int:
    """Count what is in the outbox."""
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM outbox")).scalar_one())


def measure_drain(engine: Engine, broker: RabbitMQServer, number: int, subjects: int) -> Cost:
    """Return what an event costs while a backlog of so many drains."""
    record_events(engine, number, subjects)
    cpu, started = time.process_time(), time.perf_counter()
    with relaying(engine, broker):
        while unsent(engine):
            time.sleep(0.05)
        seconds = time.perf_counter() - started
    return Cost(seconds / number, (time.process_time() - cpu) / number)


def measure_cost(engines: list[Engine], broker: RabbitMQServer, number: int, subjects: int) -> list[Cost]:
    """Return the least that an event costs in each database, which take turns."""
    rounds = [[measure_drain(engine, broker, number, subjects) for engine in engines] for _ in range(ROUNDS)]
    return [
        Cost(min(cost.seconds for cost in costs), min(cost.cpu for cost in costs))
        for costs in zip(*rounds, strict=True)
    ]


def is_as_promised(without: Cost, with_history: Cost, history: int) -> bool:
    """Print what events cost, and tell whether that is as promised."""
    times = with_history.seconds / without.seconds, with_history.cpu / without.cpu
    print(f"without history: {without}")
    print(f"with {history:,} events of history: {with_history}")
    print(f"with history an event takes {times[0]:.2f} times the time, {times[1]:.2f} times the CPU time")
    slowest = max(without.seconds, with_history.seconds)
    return max(times) <= MOST_WITH_HISTORY and 1 / slowest >= EVENTS_PER_SECOND


def measure_lag(engine: Engine, broker: RabbitMQServer, rate: int, seconds: int = 10) -> bool:
    """Record single events at a steady rate, print how long they stay; tell whether that is as promised."""
    committed: dict[int, float] = {}
    lags: list[float] = []

    @event.listens_for(engine, "after_cursor_execute")
    def watch(_connection, _cursor, statement, parameters, *_) -> None:  # type: ignore[no-untyped-def]
        if statement.startswith("DELETE FROM outbox"):
            now = time.perf_counter()
            lags.extend(now - committed[n] for n in parameters["sequences"] if n in committed)

    with relaying(engine, broker), Session(engine) as session:
        for n in range(rate * seconds):
            with transaction(session) as here:
                record(here, NewEvent("order.paid", str(n % 100), DATA))
                last = here.execute(text("SELECT lastval()")).scalar_one()
            committed[last] = time.perf_counter()
            time.sleep(1 / rate)
        while unsent(engine):
            time.sleep(0.05)
    ranks = [1000 * lag for lag in statistics.quantiles(lags, n=100)]
    print(f"lag of {len(lags)} events: p50 {ranks[49]:.0f} ms, p99 {ranks[98]:.0f} ms")
    return ranks[49] <= P50_MS and ranks[98] <= P99_MS


def main() -> int:
    """Print what the relay costs, and its lag."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--subjects", type=int, default=2_000)
    parser.add_argument("--history", type=int, default=1_000_000, help="events recorded and sent before")
    parser.add_argument("--rate", type=int, default=200, help="events a second while the lag is measured")
    chosen = parser.parse_args()
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    # Log lines are made, as in the worker, and not shown.
    structlog.configure(
        processors=[structlog.processors.JSONRenderer()], logger_factory=structlog.ReturnLoggerFactory()
    )
    with durable_postgres() as server, run_rabbitmq() as broker:
        histories = {"without_history": 0, "with_history": chosen.history}
        engines = [make_database(server, name, number) for name, number in histories.items()]
        without, with_history = measure_cost(engines, broker, chosen.events, chosen.subjects)
        cheap = is_as_promised(without, with_history, chosen.history)
        prompt = measure_lag(engines[-1], broker, chosen.rate)
        for engine in engines:
            engine.dispose()
    return 0 if cheap and prompt else 1


if __name__ == "__main__":
    sys.exit(main())
