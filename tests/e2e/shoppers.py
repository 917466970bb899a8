"""Customers who browse, order and pay, one thing after the other, each call written down."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import urllib3

from tests.e2e.client import Client
from tests.e2e.conftest import word


class Shoppers:
    """What a crowd of customers has asked, and what of it failed; they take a moment to read each answer."""

    def __init__(self, buyers: Sequence[Client], product: dict[str, Any], reading_seconds: float) -> None:
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self.paid: list[dict[str, Any]] = []
        self._product = product
        self._buyers = buyers
        self._reading_seconds = reading_seconds
        self._done = threading.Event()

    @contextmanager
    def shopping(self) -> Iterator[None]:
        """Let them shop during the block, and finish what they are at."""
        threads = [threading.Thread(target=self._shop, args=(buyer,)) for buyer in self._buyers]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._done.set()
            for thread in threads:
                thread.join(60)

    def wait_for(self, number: int, seconds: float = 60) -> None:
        """Wait until so many calls were made."""
        ends = time.monotonic() + seconds
        while sum(self.answers.values()) < number and time.monotonic() < ends:
            time.sleep(0.1)

    def _shop(self, buyer: Client) -> None:
        body = {"items": [{"product_id": self._product["id"], "quantity": 1}]}
        while not self._done.is_set():
            self._call(buyer, "GET", "/products?limit=5", 200)
            self._call(buyer, "GET", f"/products/{self._product['id']}", 200)
            order = self._call(buyer, "POST", "/orders", 201, body)
            if order:
                path = f"/orders/{order['id']}"
                if paid := self._call(buyer, "POST", f"{path}/pay", 200, {"method": "sandbox"}):
                    self.paid.append(paid)
                self._call(buyer, "GET", path, 200)
            self._call(buyer, "GET", "/profile", 200)

    def _call(self, buyer: Client, method: str, path: str, status: int, body: Any = None) -> Any:
        """Make one call, exactly once; keep why it failed."""
        given = {} if body is None else {"json": body, "headers": {"Idempotency-Key": word()}}
        try:
            reply = buyer.send(method, path, **given)
        except (urllib3.exceptions.HTTPError, AssertionError) as error:
            self.failures.append(f"{method} {path}: {error!r}")
            return None
        finally:
            time.sleep(self._reading_seconds)
            self.answers[f"{method} {path.split('/')[1]}"] += 1
        if reply.status != status:
            self.failures.append(f"{reply.request}: {reply.status} {reply.raw[:300]!r} {reply.seconds:.1f} s")
            return None
        return reply.body
