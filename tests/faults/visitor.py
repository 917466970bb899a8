"""What people do in the shop: browse, order, pay, and what follows a payment now and then."""

import random
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any
from uuid import uuid4

from tests.faults.calls import Call, Person
from tests.faults.market import Market

METHOD = "http"
# How often each way to pay is taken; what the bank does with a token is on its own page.
TOKENS = {
    "tok_success": 50,
    "tok_decline": 8,
    "tok_async": 8,
    "tok_action": 4,
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


class Visitor:
    """The ways in which people use a shop, with a thread's own dice."""

    def __init__(self, market: Market, dice: random.Random) -> None:
        self._market, self._shop, self._dice = market, market.shop, dice
        self._admin = market.admin
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
        product = self._dice.choice(self._market.wide)
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
        dice, market = self._dice.random(), self._market
        if dice < 0.6:
            chosen = self._dice.sample(market.wide, self._dice.randint(1, 3))
            return {product: self._dice.randint(1, 4) for product in chosen}
        if dice < 0.85:
            chosen = [self._dice.choice(market.contended), self._dice.choice(market.wide)]
            self._dice.shuffle(chosen)
            return dict.fromkeys(chosen, 1)
        return {self._dice.choice(market.scarce): self._dice.randint(1, 6)}

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
        token = self._dice.choices(list(TOKENS), weights=list(TOKENS.values()))[0]
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
        body = {"method": METHOD, "token": token}
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
