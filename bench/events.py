"""Measure how long events wait under an HTTP load, and how soon a broker's outage is made up for.

    make bench-events                       (python bench/events.py [--seconds 60] [--outage 60] [--buyers 6])

It runs a suite of its own as plain processes, or uses this folder's containers, whose shop SHOP_URL names.
Customers browse, order and pay. Lag is the time from an event's recording, just before its commit, to the log
line that the relay writes when the broker has confirmed it. It fails when a figure is worse than promised,
or a request failed.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "chassis")]

import psycopg2  # noqa: E402
import urllib3  # noqa: E402

from tests.e2e.client import POOL, Client  # noqa: E402
from tests.e2e.conftest import PASSWORD, word  # noqa: E402
from tests.e2e.local_suite import run_suite  # noqa: E402
from tests.e2e.shoppers import Shoppers  # noqa: E402
from tests.e2e.suite import Suite, suite_from_environment  # noqa: E402

SERVICES = ("user", "product", "order")
READING_SECONDS = 0.1
# What is promised.
P50_MS, P99_MS, SECONDS_TO_DRAIN = 250, 2000, 30


@dataclass(frozen=True)
class Outboxes:
    """The databases of the services that tell others something."""

    suite: Suite
    connections: dict[str, psycopg2.extensions.connection]

    def ask(self, service: str, question: str, *values: object) -> list[tuple[float, ...]]:
        """Return the rows of an answer."""
        with self.connections[service].cursor() as cursor:
            cursor.execute(question, values)
            return cursor.fetchall()

    def unsent(self) -> int:
        """Count what no broker has confirmed yet."""
        return sum(int(self.ask(name, "SELECT count(*) FROM outbox")[0][0]) for name in SERVICES)

    def newest(self) -> dict[str, float]:
        """Return each service's last event."""
        return {
            name: self.ask(name, "SELECT coalesce(max(sequence), 0) FROM events")[0][0] for name in SERVICES
        }

    def lags(self, since: dict[str, float]) -> list[float]:
        """Return how long each later event waited."""
        lags: list[float] = []
        for name in SERVICES:
            question = "SELECT sequence, extract(epoch FROM occurred_at) FROM events WHERE sequence > %s"
            recorded = {int(row[0]): float(row[1]) for row in self.ask(name, question, since[name])}
            for sequence, relayed in self._relayed(name):
                if sequence in recorded:
                    lags.append(relayed - recorded[sequence])
        return lags

    def _relayed(self, name: str) -> Iterator[tuple[int, float]]:
        """Read from a service's log when which event was confirmed."""
        for path in sorted((self.suite.logs / f"{name}-service").glob("app.log*")):
            for line in path.read_text().splitlines():
                if '"event relayed"' in line:
                    entry = json.loads(line)
                    yield entry["sequence"], datetime.fromisoformat(entry["time"]).timestamp()


@contextmanager
def outboxes_of(suite: Suite) -> Iterator[Outboxes]:
    """Open the services' databases, each as its own user."""
    with ExitStack() as stack:
        connections = {}
        for name in SERVICES:
            connection = psycopg2.connect(
                host="127.0.0.1",
                port=suite.env.get("POSTGRES_PORT", "5432"),
                dbname=f"{name}_db",
                user=f"{name}_service",
                password=suite.env[f"{name.upper()}_DB_PASSWORD"],
            )
            connection.autocommit = True
            stack.callback(connection.close)
            connections[name] = connection
        yield Outboxes(suite, connections)


def make_crowd(suite: Suite, number: int) -> Shoppers:
    """Register customers, and put something on sale."""
    anyone = Client(suite.url)
    admin = anyone.login(suite.env["ADMIN_USERNAME"], suite.env["ADMIN_PASSWORD"])
    product = {"name": f"Product {word()}", "price": "10.00", "stock": 1_000_000, "low_stock_threshold": 0}
    buyers = []
    for _ in range(number):
        name = f"u_{word()}"
        account = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
        anyone.post("/register", account).expect(201)
        buyers.append(anyone.login(name, PASSWORD))
    return Shoppers(buyers, admin.post("/products", product).expect(201), READING_SECONDS)


def measure_lag(outboxes: Outboxes, buyers: int, seconds: float) -> bool:
    """Print how long events wait while customers order and pay; tell whether that is as promised."""
    crowd = make_crowd(outboxes.suite, buyers)
    since, started = outboxes.newest(), time.monotonic()
    with crowd.shopping():
        time.sleep(seconds)
    calls = sum(crowd.answers.values()) / (time.monotonic() - started)
    wait_until_sent(outboxes)
    lags = outboxes.lags(since)
    ranks = [1000 * lag for lag in statistics.quantiles(lags, n=100)]
    print(f"load: {calls:.0f} requests/s, {len(crowd.failures)} failed, {len(crowd.paid)} orders paid")
    print(f"lag of {len(lags)} events: p50 {ranks[49]:.0f} ms, p99 {ranks[98]:.0f} ms")
    return ranks[49] <= P50_MS and ranks[98] <= P99_MS and not crowd.failures


def measure_outage(outboxes: Outboxes, buyers: int, seconds: float) -> bool:
    """Print how long an outage's backlog takes under load; tell whether that is as promised."""
    crowd = make_crowd(outboxes.suite, buyers)
    wait_until_sent(outboxes)
    with crowd.shopping():
        outboxes.suite.stop("rabbitmq")
        time.sleep(seconds)
        backlog = outboxes.newest()
        number = outboxes.unsent()
        started = time.monotonic()
        outboxes.suite.start("rabbitmq")
        wait_for_broker(outboxes.suite)
        back = time.monotonic()
        wait_until_sent(outboxes, backlog)
        drained = time.monotonic()
    print(
        f"outage of {seconds:.0f} s under load: {number} events waited, {len(crowd.failures)} requests failed"
    )
    print(
        f"drained {drained - back:.1f} s after the broker was back, {drained - started:.1f} s after its start"
    )
    return drained - back <= SECONDS_TO_DRAIN and not crowd.failures


def wait_for_broker(suite: Suite) -> None:
    """Wait until the management page answers."""
    while True:
        try:
            POOL.request("GET", suite.rabbitmq_url)
        except urllib3.exceptions.HTTPError:
            time.sleep(0.1)
        else:
            return


def wait_until_sent(outboxes: Outboxes, last: dict[str, float] | None = None) -> None:
    """Wait until all events were sent, or those up to these."""
    question = "SELECT count(*) FROM outbox WHERE sequence <= %s"
    upto = last or outboxes.newest()
    while any(outboxes.ask(name, question, upto[name])[0][0] for name in SERVICES):
        time.sleep(0.1)


def main() -> int:
    """Print lag and recovery."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="how long the lag is measured")
    parser.add_argument("--outage", type=float, default=60, help="how long the broker is away")
    parser.add_argument("--buyers", type=int, default=6)
    chosen = parser.parse_args()
    with ExitStack() as stack:
        suite = suite_from_environment() if "SHOP_URL" in os.environ else stack.enter_context(run_suite())
        outboxes = stack.enter_context(outboxes_of(suite))
        kept = [
            measure_lag(outboxes, chosen.buyers, chosen.seconds),
            measure_outage(outboxes, chosen.buyers, chosen.outage),
        ]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
