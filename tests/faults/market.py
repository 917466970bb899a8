"""What is sold and who buys it, made while the suite is well."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

from tests.faults.calls import Call, Person, Shop, wait_until

PASSWORD = "correct horse battery staple"
PREPARATION_SECONDS = 60.0
PRICES = ("0.01", "9.90", "19.99", "33.33", "128.00", "1999.95")
# How many products, and pieces of each: enough for everybody, the same few for many, and last pieces.
WIDE, CONTENDED, SCARCE = (40, 20_000), (2, 500_000), (4, 8)


class Market:
    """A shop, its administrator, its products by how many want them, and its buyers."""

    def __init__(self, shop: Shop, admin: Person) -> None:
        self.shop, self.admin = shop, admin
        self.buyers: list[Person] = []
        self.wide: list[int] = []
        self.contended: list[int] = []
        self.scarce: list[int] = []

    def open(self, buyers: int) -> None:
        """Make the products, and register so many buyers."""
        self._sign_in(self.admin)
        for group, (count, stock) in (
            (self.wide, WIDE),
            (self.contended, CONTENDED),
            (self.scarce, SCARCE),
        ):
            group += [self._make_product(number, stock) for number in range(count)]
        with ThreadPoolExecutor(2) as pool:
            self.buyers = list(pool.map(lambda _: self._register(), range(buyers)))

    def _make_product(self, number: int, stock: int) -> int:
        price = PRICES[number % len(PRICES)]
        known = {"price": price, "stock": stock, "low_stock_threshold": 5 if stock == SCARCE[1] else 0}

        def make() -> Call:
            body = {"name": f"Thing {uuid4().hex[:8]}"} | known
            return self.shop.call("product", "POST", "/products", self.admin, body, repeatable=False)

        product_id: int = _insist(make).answer["id"]
        self.shop.record.prices[product_id], self.shop.record.initial[product_id] = price, stock
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
        self.shop.record.people[person.user_id] = person


def _insist(make: Callable[[], Call]) -> Call:
    """Make something anew until one is there: nothing is broken yet, but the machine may be busy."""
    ends = time.time() + PREPARATION_SECONDS
    while (call := make()).outcome != "ok":
        assert time.time() < ends, f"no {call.kind}: {call.tries}"
        time.sleep(1)
    return call
