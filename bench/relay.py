"""Measure the relay: how fast a backlog leaves the outbox, and how long a single event waits under load.

    python bench/relay.py [--events 20000] [--subjects 2000] [--history 0] [--rate 200]

It starts a PostgreSQL that waits for its disk and a RabbitMQ with the suite's quorum queues, both thrown away
at the end, and prints events per second, then the lag from commit to confirm. It fails when one is worse than
promised.
"""

import argparse
import logging
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
from tests.servers import RabbitMQServer, run_postgres, run_rabbitmq  # noqa: E402

HISTORY = text(
    "INSERT INTO events (id, type, subject, data) "
    "SELECT gen_random_uuid(), 'order.paid', n::text, '{}' FROM generate_series(1, :number) AS n"
)
DATA = {"text": "x" * 400}
# What is promised.
EVENTS_PER_SECOND, P50_MS, P99_MS = 1000, 250, 2000


class Settings(ServiceSettings):
    """The broker's login of one service."""

    service: ClassVar[str] = "order-service"


@contextmanager
def durable_postgres() -> Iterator[Engine]:
    """Run a PostgreSQL that waits for its disk, as the tests' own does not, with an empty database."""
    with run_postgres() as server:
        for setting in ("fsync", "synchronous_commit", "full_page_writes", "autovacuum"):
            server.execute(f"ALTER SYSTEM SET {setting} = on")
        server.execute("SELECT pg_reload_conf()")
        engine = create_engine(server.make_database("bench").url)
        Base.metadata.create_all(engine)
        yield engine
        engine.dispose()


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


def measure_drain(engine: Engine, broker: RabbitMQServer, number: int) -> float:
    """Return events per second while a backlog drains."""
    cpu, started = time.process_time(), time.perf_counter()
    with relaying(engine, broker):
        while unsent(engine):
            time.sleep(0.05)
        seconds = time.perf_counter() - started
    print(f"backlog: {number} events in {seconds:.1f} s, relay CPU {time.process_time() - cpu:.1f} s")
    return number / seconds


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
    """Print the relay's rate and lag."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--subjects", type=int, default=2_000)
    parser.add_argument("--history", type=int, default=0, help="events recorded and sent before")
    parser.add_argument("--rate", type=int, default=200, help="events a second while the lag is measured")
    chosen = parser.parse_args()
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    # Log lines are made, as in the worker, and not shown.
    structlog.configure(
        processors=[structlog.processors.JSONRenderer()], logger_factory=structlog.ReturnLoggerFactory()
    )
    with durable_postgres() as engine, run_rabbitmq() as broker:
        with engine.begin() as connection:
            connection.execute(HISTORY, {"number": chosen.history})
        record_events(engine, chosen.events, chosen.subjects)
        rate = measure_drain(engine, broker, chosen.events)
        print(f"rate: {rate:.0f} events/s")
        kept = measure_lag(engine, broker, chosen.rate)
    return 0 if kept and rate >= EVENTS_PER_SECOND else 1


if __name__ == "__main__":
    sys.exit(main())
