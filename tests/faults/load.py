"""The load: some people browse and buy, in a closed loop, on at most 16 connections."""

import random
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from tests.faults.calls import CONNECTIONS, Call, Person, Record, Shop, wait_until
from tests.faults.market import Market
from tests.faults.poison import plant_poison
from tests.faults.stock_poll import poll_stock
from tests.faults.visitor import Visitor

BUYERS_EACH = 1
STORM_SECONDS = 2.0
SETTLE_SECONDS = 60.0
# How long somebody waits at most who got no answer.
LONGEST_PAUSE, SCOUT_PAUSE = 3.0, 0.5


class Target(Protocol):
    """What the load needs of the stage."""

    @property
    def url(self) -> str: ...
    @property
    def env(self) -> Mapping[str, str]: ...
    @property
    def databases(self) -> Mapping[str, str]: ...
    @property
    def rabbitmq_url(self) -> str: ...


class Load:
    """Sixteen threads, one connection and one buyer each; stopped and started again for each blow."""

    def __init__(
        self,
        stage: Target,
        *,
        seed: int = 1,
        think: tuple[float, float] = (0.4, 1.2),
    ) -> None:
        self.record = Record()
        self.shop = Shop(stage.url, self.record)
        self._stage, self.think = stage, think
        self._random = random.Random(seed)
        admin = Person(0, stage.env["ADMIN_USERNAME"], "", stage.env["ADMIN_PASSWORD"])
        self._market = Market(self.shop, admin)
        self._running = threading.Event()
        self._wake = threading.Event()
        self._threads: list[threading.Thread] = []
        self._storm = (0, 0.0)
        self._poller: threading.Thread | None = None
        self._rounds = 0

    # --- What the stage calls ---

    def prepare(self) -> None:
        """Make what is sold and who buys, and plant the poison; the suite is well."""
        self._market.open(BUYERS_EACH * CONNECTIONS)
        plant_poison(self._stage.rabbitmq_url, self._stage.env, self.record)
        dsn = self._stage.databases["product"]
        self._poller = threading.Thread(target=poll_stock, args=(dsn, self.record), daemon=True)
        self._poller.start()

    def start(self) -> None:
        """Begin (again): everybody browses and buys."""
        self._rounds += 1
        self._running.set()
        self._wake.clear()
        self._threads = [
            threading.Thread(target=self._live, args=(place, self._rounds), daemon=True)
            for place in range(CONNECTIONS)
        ]
        for thread in self._threads:
            thread.start()

    def burst(self, n: int) -> int:
        """Have so many buyers check out without a pause; return how many calls are in flight then."""
        self._storm = (n, time.time() + STORM_SECONDS)
        self._wake.set()
        wait_until(lambda: self.in_flight() >= n, 1.0, every=0.002)
        self._wake.clear()
        return self.in_flight()

    def in_flight(self) -> int:
        """Count the checkouts that wait for their answer now."""
        return self.shop.in_flight()

    def stop(self) -> None:
        """Let every call end, and begin none."""
        self._running.clear()
        self._wake.set()
        for thread in self._threads:
            thread.join()

    def settle(self, patience: float = SETTLE_SECONDS) -> int:
        """Ask again what became of unknown calls until it is known; return how many still are not."""
        ends = time.time() + patience
        open_calls = self._open_calls()
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(lambda call: self.shop.settle(call, ends), open_calls))
        return len(self._open_calls())

    def first_success_after(self, at: float) -> float | None:
        """Return the seconds from then to the end of the first order that began after it and was placed."""
        ended = [
            one.ended
            for call in self.record.of("order")
            for one in call.tries
            if one.outcome == "ok" and one.started >= at
        ]
        return min(ended) - at if ended else None

    def wait_for_success(self, at: float, patience: float) -> float | None:
        """Wait for the first order that begins after then and is placed; return the seconds it took."""
        wait_until(lambda: self.first_success_after(at) is not None, patience, every=0.1)
        return self.first_success_after(at)

    # --- What one thread does ---

    def _live(self, place: int, round_: int) -> None:
        dice = random.Random(f"{self._random.random()}{place}{round_}")
        mine = self._market.buyers[place * BUYERS_EACH : (place + 1) * BUYERS_EACH]
        visitor, pause, stormed = Visitor(self._market, dice), 0.0, 0.0
        while self._running.is_set():
            buyer, (count, ends) = dice.choice(mine), self._storm
            if place < count and stormed < ends and time.time() < ends:
                visitor.check_out(buyer)
                # Who got no answer has hit what was broken; the next storm is another one.
                stormed = ends if visitor.baffled else 0.0
                continue
            visitor.do_something(buyer)
            # Who is refused at once would otherwise ask a thousand times a second. One goes on looking
            # when the shop is back.
            pause = min(LONGEST_PAUSE if place else SCOUT_PAUSE, pause * 2 + 0.25) if visitor.baffled else 0.0
            self._wake.wait(pause or dice.uniform(*self.think))

    def _open_calls(self) -> list[Call]:
        return [call for call in self.record.calls if call.outcome == "unknown" and call.repeatable]
