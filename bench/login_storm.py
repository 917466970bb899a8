"""Measure browsing while many sign in: 16 connections log in, rightly and wrongly, without a pause.

    python bench/login_storm.py [--connections 16] [--seconds 20] [--url http://localhost]

Without an address it starts a plain suite of its own, thrown away at the end. Two browsers, one a guest and
one signed in, read lists, searches, single products, a cart and a profile all the time; printed are their
p50, p95 and slowest answer before and during the storm, and how the logins were answered.
"""

import argparse
import itertools
import json
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "chassis")]

import urllib3  # noqa: E402

PASSWORD = "a long and winding passphrase"
GUEST = [
    "/products",
    "/products?q=tea",
    "/categories",
    "/products/{product}",
    "/products?sort=price&in_stock=true",
]
SIGNED_IN = ["/profile", "/cart", "/orders", "/products/{product}", "/notifications/history"]
PROMISED_SECONDS = 1.0


class Shop:
    """The public address, asked over connections that stay open."""

    def __init__(self, url: str, connections: int) -> None:
        self.url = f"{url.rstrip('/')}/api/v1"
        self.pool = urllib3.PoolManager(
            maxsize=connections,
            block=False,
            retries=False,
            timeout=urllib3.Timeout(30),
            cert_reqs="CERT_NONE",
        )

    def ask(self, method: str, path: str, body: object = None, token: str = "") -> urllib3.BaseHTTPResponse:
        """Send one request."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        raw = None if body is None else json.dumps(body).encode()
        if raw is not None:
            headers["Content-Type"] = "application/json"
        return self.pool.request(method, self.url + path, body=raw, headers=headers)

    def register(self) -> str:
        """Make a customer and return the name."""
        name = f"storm_{token_hex(6)}"
        account = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
        answer = self.ask("POST", "/register", account)
        if answer.status != 201:
            raise SystemExit(f"registering: {answer.status} {answer.data!r}")
        return name

    def sign_in(self, name: str, password: str = PASSWORD) -> str:
        """Return an access token."""
        answer = self.ask("POST", "/login", {"username": name, "password": password})
        if answer.status != 200:
            raise SystemExit(f"signing in: {answer.status} {answer.data!r}")
        return str(answer.json()["access_token"])


def browse(shop: Shop, paths: list[str], token: str, stop: threading.Event) -> list[tuple[float, int]]:
    """Read one page after the other until told to stop; return each answer's seconds and status."""
    seen = []
    for path in itertools.cycle(paths):
        if stop.is_set():
            return seen
        started = time.monotonic()
        status = shop.ask("GET", path, token=token).status
        seen.append((time.monotonic() - started, status))
        stop.wait(0.05)
    return seen


def storm(shop: Shop, name: str, number: int, stop: threading.Event) -> Counter[int]:
    """Sign in without a pause: every other connection as somebody who is known, the others as nobody."""
    answers: Counter[int] = Counter()
    while not stop.is_set():
        body = {"username": name, "password": PASSWORD}
        if number % 2:
            body = {"username": f"nobody_{token_hex(4)}", "password": token_hex(8)}
        answers[shop.ask("POST", "/login", body).status] += 1
    return answers


def watch(seconds: float, *tasks: Callable[[threading.Event], object]) -> list[object]:
    """Run tasks at once for so long and return what they return."""
    stop = threading.Event()
    with ThreadPoolExecutor(len(tasks)) as pool:
        running = [pool.submit(task, stop) for task in tasks]
        time.sleep(seconds)
        stop.set()
        return [task.result() for task in running]


def show(title: str, seen: list[tuple[float, int]]) -> float:
    """Print the figures of some answers and return the p95."""
    times = sorted(seconds for seconds, _ in seen)
    p50, p95 = statistics.median(times), times[int(len(times) * 0.95) - 1]
    bad = Counter(status for _, status in seen if status != 200)
    figures = f"p50 {p50 * 1000:.0f} ms, p95 {p95 * 1000:.0f} ms, slowest {times[-1] * 1000:.0f} ms"
    print(f"{title:<22} {len(times)} answers: {figures}{f', not 200: {dict(bad)}' if bad else ''}")
    return p95


def measure(shop: Shop, product: int, *, connections: int, seconds: float) -> float:
    """Browse without and with a storm, print both, and return the p95 of the second."""
    names = [shop.register() for _ in range(connections // 2 + 1)]
    token = shop.sign_in(names[-1])
    guest, known = ([path.format(product=product) for path in paths] for paths in (GUEST, SIGNED_IN))
    browsing = [lambda stop: browse(shop, guest, "", stop), lambda stop: browse(shop, known, token, stop)]
    before = watch(seconds, *browsing)
    show("browsing before", before[0] + before[1])
    logins = [
        (lambda stop, number=number: storm(shop, names[number // 2], number, stop))
        for number in range(connections)
    ]
    started = time.monotonic()
    during = watch(seconds, *browsing, *logins)
    p95 = show("browsing in the storm", during[0] + during[1])
    show("  of that, signed in", during[1])
    answered = sum(during[2:], Counter())
    rate = answered.total() / (time.monotonic() - started)
    statuses = dict(sorted(answered.items()))
    print(f"logins                 {answered.total()} ({rate:.1f}/s) by status: {statuses}")
    return p95


@contextmanager
def address(given: str | None) -> Iterator[tuple[str, str, str]]:
    """Yield a shop's address and its administrator's name and password."""
    if given:
        from deploy.local.settings import read_values

        env = read_values(ROOT / ".env")
        yield given, env.get("ADMIN_USERNAME", "admin"), env["ADMIN_PASSWORD"]
        return
    from tests.e2e.local_suite import run_suite

    with run_suite() as suite:
        yield suite.url, suite.env["ADMIN_USERNAME"], suite.env["ADMIN_PASSWORD"]


def main() -> int:
    """Run the measurement; fail when browsing is slower than promised."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--url")
    arguments = parser.parse_args()
    with address(arguments.url) as (url, name, password):
        shop = Shop(url, arguments.connections + 4)
        token = shop.sign_in(name, password)
        product = {"name": f"Storm tea {token_hex(4)}", "price": "10.00", "stock": 10}
        made = shop.ask("POST", "/products", product, token).json()["id"]
        p95 = measure(shop, made, connections=arguments.connections, seconds=arguments.seconds)
    return 0 if p95 <= PROMISED_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
