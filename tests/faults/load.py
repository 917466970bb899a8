"""The load: some people browse and buy, in a closed loop, on at most 16 connections."""

import random
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any, Protocol
from uuid import uuid4

import psycopg2
import urllib3

from tests.faults.calls import CONNECTIONS, Call, Person, Record, Shop, wait_until

PASSWORD = "correct horse battery staple"
BUYERS_EACH = 1
STORM_SECONDS = 2.0
SETTLE_SECONDS = 60.0
POLL_SECONDS = 0.05
PREPARATION_SECONDS = 60.0
# How long somebody waits at most who got no answer.
LONGEST_PAUSE, SCOUT_PAUSE = 3.0, 0.5
PRICES = ("0.01", "9.90", "19.99", "33.33", "128.00", "1999.95")
# How many products, and pieces of each: enough for everybody, the same few for many, and last pieces.
WIDE, CONTENDED, SCARCE = (40, 20_000), (2, 500_000), (4, 8)

# How often each way to pay is taken; what the bank does with a token is on its own page.
TOKENS = {
    "tok_success": 50,
    "tok_decline": 8,
    "tok_async": 8,
    "tok_drop_reply": 8,
    "tok_late": 4,
    "tok_twice": 5,
    "tok_webhook_early": 5,
    "tok_webhook_twice": 4,
    "tok_webhook_late": 4,
    "tok_webhook_reordered": 4,
    "tok_late_arrival": 3,
    "tok_never_arrives": 2,
    "tok_error": 2,
    "tok_slow_refund": 4,
    "tok_drop_refund": 4,
}

# Where a message that is no event is published, and which queues take it.
POISON = {
    "order.poison": ("order.events", "product-service.order.events"),
    "user.poison": ("user.events",),
}


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
    """Sixteen threads, one connection and two buyers each; stopped and started again for each blow."""

    def __init__(
        self,
        stage: Target,
        *,
        method: str = "http",
        tokens: Mapping[str, int] = TOKENS,
        seed: int = 1,
        think: tuple[float, float] = (0.4, 1.2),
    ) -> None:
        self.record = Record()
        self.shop = Shop(stage.url, self.record)
        self._stage, self._method, self._tokens, self.think = stage, method, tokens, think
        self._random = random.Random(seed)
        self._admin = Person(0, stage.env["ADMIN_USERNAME"], "", stage.env["ADMIN_PASSWORD"])
        self._buyers: list[Person] = []
        self._wide: list[int] = []
        self._contended: list[int] = []
        self._scarce: list[int] = []
        self._running = threading.Event()
        self._wake = threading.Event()
        self._threads: list[threading.Thread] = []
        self._storm = (0, 0.0)
        self._poller: threading.Thread | None = None
        self._rounds = 0

    # --- What the stage calls ---

    def prepare(self) -> None:
        """Make what is sold and who buys, and plant the poison; the suite is well."""
        self._sign_in(self._admin)
        for group, (count, stock) in (
            (self._wide, WIDE),
            (self._contended, CONTENDED),
            (self._scarce, SCARCE),
        ):
            group += [self._make_product(number, stock) for number in range(count)]
        with ThreadPoolExecutor(2) as pool:
            self._buyers = list(pool.map(lambda _: self._register(), range(BUYERS_EACH * CONNECTIONS)))
        for number, (routing_key, queues) in enumerate(POISON.items()):
            self._plant_poison(f"lab-poison-{number}-{uuid4().hex[:8]}", routing_key)
            self.record.poison_in |= dict.fromkeys(queues, 1)
        self._poller = threading.Thread(target=self._poll_stock, daemon=True)
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

    # --- Before the load ---

    def _make_product(self, number: int, stock: int) -> int:
        price = PRICES[number % len(PRICES)]
        known = {"price": price, "stock": stock, "low_stock_threshold": 5 if stock == SCARCE[1] else 0}

        def make() -> Call:
            body = {"name": f"Thing {uuid4().hex[:8]}"} | known
            return self.shop.call("product", "POST", "/products", self._admin, body, repeatable=False)

        product_id: int = _insist(make).answer["id"]
        self.record.prices[product_id], self.record.initial[product_id] = price, stock
        return product_id

    def _register(self) -> Person:
        person = Person(0, "", "", PASSWORD)

        def register() -> Call:
            person.username = f"buyer_{uuid4().hex[:12]}"
            person.email = f"{person.username}@example.com"
            body = {"username": person.username, "email": person.email, "password": PASSWORD}
            return self.shop.call("register", "POST", "/register", None, body, repeatable=False)

        _insist(register)
        self._sign_in(person)
        return person

    def _sign_in(self, person: Person) -> None:
        signed_in = wait_until(lambda: self.shop.sign_in(person), PREPARATION_SECONDS, every=1.0)
        assert signed_in, f"{person.username} can't sign in"
        self.record.people[person.user_id] = person

    def _plant_poison(self, message_id: str, routing_key: str) -> None:
        """Publish what is no event: it has to end among the dead letters, and hold up nobody."""
        env = self._stage.env
        login = f"{env['RABBITMQ_DEFAULT_USER']}:{env['RABBITMQ_DEFAULT_PASS']}"
        body = {
            "properties": {"message_id": message_id, "delivery_mode": 2},
            "routing_key": routing_key,
            "payload": "no event at all",
            "payload_encoding": "string",
        }
        done = urllib3.request(
            "POST",
            f"{self._stage.rabbitmq_url}/api/exchanges/%2F/ecommerce.events/publish",
            json=body,
            headers=urllib3.make_headers(basic_auth=login),
        )
        assert done.status == 200, f"the poison was not taken: {done.data!r}"
        assert done.json()["routed"], f"no queue takes {routing_key}"
        self.record.poison.add(message_id)

    def _poll_stock(self) -> None:
        """Look for a stock below zero all the time, on a connection of its own."""
        while True:
            try:
                self._poll_on_one_connection()
            except psycopg2.Error:
                # The database is what the blow hit; it is asked again when it is back.
                time.sleep(0.5)

    def _poll_on_one_connection(self) -> None:
        dsn = self._stage.databases["product"]
        connection = psycopg2.connect(dsn, connect_timeout=2, tcp_user_timeout=5000)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                while True:
                    cursor.execute("SELECT id, stock FROM products WHERE stock < 0")
                    rows = cursor.fetchall()
                    self.record.stock_polls += 1
                    self.record.negative_stock += [f"product {row[0]}: {row[1]} pieces" for row in rows]
                    time.sleep(POLL_SECONDS)
        finally:
            connection.close()

    # --- What one thread does ---

    def _live(self, place: int, round_: int) -> None:
        dice = random.Random(f"{self._random.random()}{place}{round_}")
        mine = self._buyers[place * BUYERS_EACH : (place + 1) * BUYERS_EACH]
        visitor, pause, stormed = _Visitor(self, dice), 0.0, 0.0
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


def _insist(make: Callable[[], Call]) -> Call:
    """Make something anew until one is there: nothing is broken yet, but the machine may be busy."""
    ends = time.time() + PREPARATION_SECONDS
    while (call := make()).outcome != "ok":
        assert time.time() < ends, f"no {call.kind}: {call.tries}"
        time.sleep(1)
    return call


class _Visitor:
    """The ways in which people use a shop, with a thread's own dice."""

    def __init__(self, load: Load, dice: random.Random) -> None:
        self._load, self._shop, self._dice = load, load.shop, dice
        self._admin = load._admin
        # Whether the last thing that was done ended without an answer.
        self.baffled = False

    def do_something(self, buyer: Person) -> None:
        """Browse, or buy, or change one's profile."""
        dice, self.baffled = self._dice.random(), False
        if dice < 0.48:
            self._browse(buyer)
        elif dice < 0.50:
            self._change_profile(buyer)
        else:
            self.check_out(buyer)

    def check_out(self, buyer: Person) -> None:
        """Order, and mostly pay; what follows a payment now and then follows."""
        self.baffled = False
        order = self._order(buyer)
        if order is None:
            return
        dice = self._dice.random()
        if dice < 0.08:
            # Nobody pays it: it expires.
            return
        if dice < 0.12:
            self._move("cancel", buyer, order)
            return
        self._pay(buyer, order)

    def _call(self, kind: str, method: str, path: str, person: Person | None, *args: Any, **kw: Any) -> Call:
        call = self._shop.call(kind, method, path, person, *args, **kw)
        self.baffled = call.outcome == "unknown"
        return call

    def _browse(self, buyer: Person) -> None:
        product = self._dice.choice(self._load._wide)
        paths: list[tuple[str, Person | None]] = [
            ("/products?sort=price&limit=20", None),
            ("/products?q=Thing&limit=10", None),
            (f"/products/{product}", None),
            ("/cart", buyer),
            ("/orders?limit=10", buyer),
        ]
        path, who = self._dice.choice(paths)
        self._call("browse", "GET", path, who, repeatable=False)

    def _change_profile(self, buyer: Person) -> None:
        change = {"nickname": f"n{uuid4().hex[:6]}", "locale": self._dice.choice(["zh-CN", "en"])}
        self._call("profile", "PUT", "/profile", buyer, change, repeatable=False)

    # --- Ordering ---

    def _choose(self) -> dict[int, int]:
        """Choose products and pieces: of the many, of those that everybody wants, of the last ones."""
        dice, load = self._dice.random(), self._load
        if dice < 0.6:
            chosen = self._dice.sample(load._wide, self._dice.randint(1, 3))
            return {product: self._dice.randint(1, 4) for product in chosen}
        if dice < 0.85:
            chosen = [self._dice.choice(load._contended), self._dice.choice(load._wide)]
            self._dice.shuffle(chosen)
            return dict.fromkeys(chosen, 1)
        return {self._dice.choice(load._scarce): self._dice.randint(1, 6)}

    def _order(self, buyer: Person) -> dict[str, Any] | None:
        lines = self._choose()
        key = str(uuid4())
        # The remark carries the key into the books, where the judges look for it.
        body: dict[str, Any] = {"remark": key}
        facts: dict[str, Any] = {"lines": lines}
        if self._dice.random() < 0.25 and self._fill_cart(buyer, lines):
            # What the cart holds is only nearly known: earlier orders may have come to nothing.
            facts = {}
        else:
            body["items"] = [{"product_id": p, "quantity": q} for p, q in lines.items()]
        call = self._call("order", "POST", "/orders", buyer, body, key=key, facts=facts)
        if call.code == "insufficient_stock" and self._dice.random() < 0.3:
            self._restock(next(iter(lines)))
        if call.outcome != "ok":
            return None
        order: dict[str, Any] = call.answer
        if self._dice.random() < 0.1:
            self._call(
                "look",
                "GET",
                f"/orders/{order['id']}",
                buyer,
                facts={"order_id": order["id"]},
                repeatable=False,
            )
        return order

    def _fill_cart(self, buyer: Person, lines: Mapping[int, int]) -> bool:
        for product, quantity in lines.items():
            path, body = f"/cart/items/{product}", {"quantity": quantity}
            if self._call("cart", "PUT", path, buyer, body, repeatable=False).outcome != "ok":
                return False
        return True

    def _restock(self, product: int) -> None:
        self._book(product, self._dice.randint(1, 6), f"delivery {uuid4()}")

    def _book(self, product: int, delta: int, reason: str) -> None:
        """Book a delivery or a return; it has no key, so an unknown one is never sent again."""
        self._call(
            "stock",
            "POST",
            f"/products/{product}/stock",
            self._admin,
            {"delta": delta, "reason": reason},
            repeatable=False,
            facts={"product_id": product, "delta": delta, "reason": reason},
        )

    # --- Paying, and what follows ---

    def _pay(self, buyer: Person, order: dict[str, Any]) -> None:
        token = self._dice.choices(list(self._load._tokens), weights=list(self._load._tokens.values()))[0]
        call = self._send_payment(buyer, order, token)
        if call.status == 402 and self._dice.random() < 0.7:
            call = self._send_payment(buyer, order, "tok_success")
        if call.outcome != "ok":
            return
        if call.status == 202:
            # Now and then somebody cancels while the money is on its way.
            if self._dice.random() < 0.15:
                self._move("cancel", buyer, order)
            return
        self._after_payment(buyer, order)

    def _send_payment(self, buyer: Person, order: dict[str, Any], token: str) -> Call:
        body = {"method": self._load._method, "token": token}
        facts = {"order_id": order["id"], "token": token}
        return self._call("pay", "POST", f"/orders/{order['id']}/pay", buyer, body, keyed=True, facts=facts)

    def _after_payment(self, buyer: Person, order: dict[str, Any]) -> None:
        dice = self._dice.random()
        follow: tuple[tuple[float, Callable[[], object]], ...] = (
            (0.06, lambda: self._move("cancel", buyer, order)),
            (0.12, lambda: self._refund(order, None)),
            (0.20, lambda: self._refund(order, self._part_of(order))),
            (0.32, lambda: self._ship(buyer, order)),
        )
        for limit, action in follow:
            if dice < limit:
                action()
                return

    def _ship(self, buyer: Person, order: dict[str, Any]) -> None:
        shipment = {"carrier": "SF", "tracking_number": uuid4().hex}
        if self._move("ship", self._admin, order, shipment).outcome != "ok":
            return
        if self._dice.random() < 0.5:
            self._move("complete", buyer, order)
        if self._dice.random() < 0.3:
            self._refund(order, self._part_of(order))
            self._book(order["items"][0]["product_id"], 1, "return")

    def _move(self, kind: str, person: Person, order: dict[str, Any], body: Any = None) -> Call:
        path = f"/orders/{order['id']}/{kind}"
        return self._call(kind, "POST", path, person, body, facts={"order_id": order["id"]})

    def _refund(self, order: dict[str, Any], amount: str | None) -> None:
        key = str(uuid4())
        body = {"reason": key} | ({"amount": amount} if amount else {})
        path = f"/orders/{order['id']}/refund"
        facts = {"order_id": order["id"], "amount": amount}
        self._call("refund", "POST", path, self._admin, body, key=key, facts=facts)

    def _part_of(self, order: dict[str, Any]) -> str:
        total = Decimal(order["total_amount"])
        return str(max(Decimal("0.01"), (total / 3).quantize(Decimal("0.01"))))
