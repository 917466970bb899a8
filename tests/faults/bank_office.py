"""What the bank does by itself: it settles what is under way, and tells the shop until that has heard."""

import hashlib
import heapq
import hmac
import itertools
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.bank_books import OPEN, Books, Ledger, Payment
from tests.faults.bank_plans import Behaviour, Plan, Refused

WEBHOOK_SECONDS = 5.0
EARLY_SECONDS = 1.0
WEBHOOK_PAUSES = (0.5, 1, 2, 4, 8, *[15] * 30)


class Clock:
    """Runs calls later, several at a time."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._hands = ThreadPoolExecutor(16)
        threading.Thread(target=self._run, daemon=True).start()

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Run a call in so many seconds."""
        with self._changed:
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._numbers), call))
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._due or self._due[0][0] > time.monotonic():
                    self._changed.wait(self._due[0][0] - time.monotonic() if self._due else None)
                _, _, call = heapq.heappop(self._due)
            self._hands.submit(call)


@dataclass
class Delivery:
    """A webhook and how it went."""

    body: dict[str, Any]
    url: str
    secret: str
    answers: list[str] = field(default_factory=list)
    taken: bool = False


class Herald:
    """Tells the shop, again and again until it has taken it, as real providers do."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.deliveries: list[Delivery] = []

    def tell(self, behaviour: Behaviour, payment: Payment, kind: str) -> Delivery | None:
        """Note that the shop is to be told; None when nobody listens."""
        if not behaviour.webhook_url:
            return None
        body = {
            "id": f"evt_{payment.id}_{kind}",
            "type": f"payment.{kind}",
            "payment_id": payment.id,
            "amount": payment.taken or payment.amount,
            "currency": payment.currency,
        }
        delivery = Delivery(body, behaviour.webhook_url, behaviour.webhook_secret)
        self.deliveries.append(delivery)
        return delivery

    def send(self, delivery: Delivery, after: float = 0.0) -> None:
        """Deliver it in so many seconds, and go on until it is taken or the pauses are used up."""

        def attempt() -> None:
            tried = len(delivery.answers)
            self.send_now(delivery, WEBHOOK_SECONDS)
            if not delivery.taken and tried < len(WEBHOOK_PAUSES):
                self.send(delivery, WEBHOOK_PAUSES[tried])

        self._clock.later(after, attempt)

    def send_now(self, delivery: Delivery, seconds: float) -> None:
        """Try once."""
        raw = json.dumps(delivery.body).encode()
        headers = {"Content-Type": "application/json", "X-Signature": sign(delivery.secret, raw)}
        request = urllib.request.Request(delivery.url, data=raw, headers=headers, method="POST")
        try:
            with _direct.open(request, timeout=seconds) as answer:
                outcome = str(answer.status)
                delivery.taken = 200 <= answer.status < 300
        except urllib.error.HTTPError as error:
            with error:
                outcome = str(error.code)
        except (OSError, ValueError, urllib.error.URLError) as error:
            outcome = type(error).__name__
        delivery.answers.append(outcome)


# Whatever proxy the environment names is not meant for the shop.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def sign(secret: str, body: bytes) -> str:
    """Return the signature of a webhook that is sent now."""
    at = str(int(time.time()))
    digest = hmac.new(secret.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


class Bank:
    """The provider: books, behaviour, and what happens by itself."""

    def __init__(self, ledger: Path, key: str, behaviour: Behaviour) -> None:
        self.books = Books(Ledger(ledger))
        self.key = key
        self.first_behaviour = self.behaviour = behaviour
        self.clock = Clock()
        self.herald = Herald(self.clock)
        self._refunds_asked: dict[str, tuple[float, int]] = {}
        for payment in self.books.payments.values():
            if payment.status in OPEN:
                self._settle_later(payment, self.plan(payment))

    def plan(self, payment: Payment) -> Plan:
        """Return what is to happen to a payment."""
        return self.behaviour.plan(payment.id, payment.token)

    def charge(
        self, payment_id: str, amount: str, currency: str, token: str | None, plan: Plan
    ) -> tuple[Payment, list[Delivery]]:
        """Take a payment; return it, and what is still to be told to the shop once it is answered."""
        payment, is_new = self.books.charge(payment_id, amount, currency, token, plan)
        if not is_new:
            return payment, []
        if payment.status in OPEN:
            self._settle_later(payment, plan)
            return payment, []
        return payment, self._announce(payment, plan) if payment.status == "captured" else []

    def _settle_later(self, payment: Payment, plan: Plan) -> None:
        if plan.settles is not None:
            status = plan.settles
            self.clock.later(self.behaviour.settle_seconds, lambda: self._settle(payment, status))

    def _settle(self, payment: Payment, status: str) -> None:
        if payment.status in OPEN:
            self.end(payment.id, status)

    def end(
        self, payment_id: str, status: str, *, amount: str = "", currency: str = "", force: bool = False
    ) -> Payment:
        """End a payment and tell the shop."""
        if status == "captured":
            moved = self.books.capture(payment_id, amount=amount, currency=currency, force=force)
        else:
            moved = self.books.find(payment_id).status in OPEN
            self.books.give_up(payment_id, "failed")
        payment = self.books.find(payment_id)
        if moved:
            for delivery in self._announce(payment, self.plan(payment)):
                self.herald.send(delivery)
        return payment

    def _announce(self, payment: Payment, plan: Plan) -> list[Delivery]:
        """Tell of a payment's end as its plan says; return what is to be told after the answer."""
        mode = plan.webhook or self.behaviour.webhook
        kind = "succeeded" if payment.status == "captured" else "failed"
        told = None if mode == "none" else self.herald.tell(self.behaviour, payment, kind)
        if told is None:
            return []
        if mode == "early":
            self.herald.send_now(told, EARLY_SECONDS)
            return [] if told.taken else [told]
        if mode == "late":
            self.herald.send(told, self.behaviour.webhook_late_seconds)
            return []
        if mode == "reordered" and (older := self.herald.tell(self.behaviour, payment, "failed")):
            # Of an attempt before the one that succeeded, and overtaken by its news.
            self.herald.send(older, 1.0)
        return [told, told] if mode == "twice" else [told]

    def refund(self, refund_id: str, payment_id: str, amount: str, currency: str) -> tuple[str, bool]:
        """Give money back; return the refund's status, and whether the answer is to be lost."""
        payment = self.books.find(payment_id)
        how = self.plan(payment).refund
        with self.books.lock:
            first, asked = self._refunds_asked.get(refund_id, (time.monotonic(), 0))
            self._refunds_asked[refund_id] = (first, asked + 1)
        if refund_id in payment.refunds:
            return "done", False
        if how == "refused":
            return "refused", False
        if how == "slow" and time.monotonic() < first + self.behaviour.refund_seconds:
            return "processing", False
        try:
            self.books.refund(refund_id, payment_id, amount, currency)
        except Refused as refusal:
            if refusal.status != 200:
                raise
            return "refused", False
        return "done", how == "drop" and asked == 0
