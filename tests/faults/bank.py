"""A payment provider of its own, to judge the shop by; it keeps to docs/payments.md, and misbehaves as told.

    python -m tests.faults.bank --port 9100 --ledger ledger.jsonl --key KEY --webhook-secret SECRET

Its ledger is a file to which lines are only ever added, each before its effect counts: `authorise`,
`capture`, `cancel` and `refund`. A bank that is started again reads it back. It needs nothing but Python.

For the lab (without a key):

    GET    /lab/health
    GET    /lab/ledger[?after=SEQ]           every line
    GET    /lab/webhooks                     what was told to the shop, and how often it had to be tried
    GET    /lab/behaviour                    how it behaves
    PUT    /lab/behaviour                    change some of that, see `Behaviour`
    DELETE /lab/behaviour                    behave as at the start again
    POST   /lab/payments/ID/capture          take the money, whatever was said before: {amount?, currency?}
    POST   /lab/payments/ID/fail             give up a payment that is under way

What happens to a payment is said by its token (`TOKENS`); those without one, or with `tok_success`, follow
the shares of the behaviour, drawn from the seed and the payment's id: the same again after a restart.
"""

import argparse
import dataclasses
import hashlib
import heapq
import hmac
import itertools
import json
import os
import random
import re
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
AMOUNT = re.compile(r"(0|[1-9][0-9]{0,11})\.[0-9]{2}", re.ASCII)
OPEN = ("processing", "requires_action")
LARGEST_BODY = 64 * 1024
WEBHOOK_SECONDS = 5.0
EARLY_SECONDS = 1.0
WEBHOOK_PAUSES = (0.5, 1, 2, 4, 8, *[15] * 30)


@dataclass(frozen=True)
class Plan:
    """What is to happen to one payment."""

    outcome: str = "captured"  # or declined, processing, requires_action
    settles: str | None = "captured"  # how one ends that is under way; None: not by itself
    arrival: str = "at once"  # or late (it acts only then), never (the connection breaks before it acts)
    reply: str = "good"  # or drop, late, twice, malformed, misaddressed, error, silent, drip
    factor: Decimal = Decimal(1)  # of the amount, when it takes another one than asked for
    webhook: str | None = None  # instead of the behaviour's: normal, early, late, twice, reordered, none
    refund: str = "done"  # or slow, refused, drop (done, and the first answer lost)


TOKENS = {
    "tok_decline": Plan(outcome="declined"),
    "tok_async": Plan(outcome="processing"),
    "tok_async_fail": Plan(outcome="processing", settles="failed"),
    "tok_async_never": Plan(outcome="processing", settles=None),
    "tok_action": Plan(outcome="requires_action"),
    "tok_action_never": Plan(outcome="requires_action", settles=None),
    "tok_drop_reply": Plan(reply="drop"),
    "tok_late": Plan(reply="late"),
    "tok_late_arrival": Plan(arrival="late"),
    "tok_never_arrives": Plan(arrival="never"),
    "tok_twice": Plan(reply="twice"),
    "tok_malformed": Plan(reply="malformed"),
    "tok_misaddressed": Plan(reply="misaddressed"),
    "tok_error": Plan(reply="error"),
    "tok_silent": Plan(reply="silent"),
    "tok_drip": Plan(reply="drip"),
    "tok_wrong_amount": Plan(factor=Decimal("0.5")),
    "tok_webhook_early": Plan(webhook="early"),
    "tok_webhook_late": Plan(webhook="late"),
    "tok_webhook_twice": Plan(webhook="twice"),
    "tok_webhook_reordered": Plan(webhook="reordered"),
    "tok_webhook_none": Plan(webhook="none"),
    "tok_slow_refund": Plan(refund="slow"),
    "tok_refuse_refund": Plan(refund="refused"),
    "tok_drop_refund": Plan(refund="drop"),
}


@dataclass(frozen=True)
class Behaviour:
    """How the bank behaves; shares are of the payments that name no token of their own."""

    seed: int = 1
    decline: float = 0.0
    processing: float = 0.0
    requires_action: float = 0.0
    drop_reply: float = 0.0
    late_reply: float = 0.0
    answer_twice: float = 0.0
    malformed: float = 0.0
    error: float = 0.0
    never_arrives: float = 0.0
    late_arrival: float = 0.0
    slow_refund: float = 0.0
    refuse_refund: float = 0.0
    drop_refund: float = 0.0
    late_reply_seconds: float = 4.0
    settle_seconds: float = 1.0
    refund_seconds: float = 2.0
    webhook_late_seconds: float = 5.0
    webhook: str = "normal"
    webhook_url: str = ""  # empty: the shop is told nothing
    webhook_secret: str = ""

    def plan(self, payment_id: str, token: str | None) -> Plan:
        """Decide what happens to a payment; unheard-of tokens are declined."""
        if token in (None, "tok_success"):
            return self._draw(payment_id)
        return TOKENS.get(str(token), Plan(outcome="declined"))

    def _draw(self, payment_id: str) -> Plan:
        return Plan(
            outcome=self._one(payment_id, "captured", "decline declined", "processing", "requires_action"),
            arrival=self._one(payment_id, "at once", "late_arrival late", "never_arrives never"),
            reply=self._one(
                payment_id, "good", "drop_reply drop", "late_reply late", "answer_twice twice",
                "malformed", "error",
            ),
            refund=self._one(
                payment_id, "done", "slow_refund slow", "refuse_refund refused", "drop_refund drop"
            ),
        )  # fmt: skip

    def _one(self, payment_id: str, usual: str, *choices: str) -> str:
        """Draw one of the choices (`share result`) by their shares, one number for all of them."""
        drawn = random.Random(f"{self.seed} {payment_id} {choices[0]}").random()
        for choice in choices:
            share, _, result = choice.partition(" ")
            drawn -= getattr(self, share)
            if drawn < 0:
                return result or share
        return usual

    def changed(self, changes: Any) -> "Behaviour":
        """Return it with some values changed; raise `Refused` for what it does not know."""
        if not isinstance(changes, dict):
            raise Refused(422, "invalid", "an object is expected")
        kinds: dict[str, Any] = {f.name: type(f.default) for f in dataclasses.fields(self)}
        for name, value in changes.items():
            kind = kinds.get(name)
            if kind is float and isinstance(value, int) and not isinstance(value, bool):
                changes = changes | {name: float(value)}
            elif kind is None or type(value) is not kind:
                raise Refused(422, "invalid", f"{name} is no {kind and kind.__name__} of the behaviour")
        return dataclasses.replace(self, **changes)


class Refused(Exception):
    """A request that the bank can't take, with the answer to it."""

    def __init__(self, status: int, code: str, detail: str = "") -> None:
        super().__init__(detail or code)
        self.status, self.body = status, {"code": code, "detail": detail or code}


@dataclass
class Payment:
    """What the books say of a payment; one that was cancelled before it came has no amount."""

    id: str
    status: str
    amount: str = ""
    currency: str = ""
    token: str | None = None
    taken: str = ""  # what was really captured, usually the amount
    refunds: dict[str, Decimal] = field(default_factory=dict)

    def shown(self) -> dict[str, Any]:
        """Return it as the page describes it."""
        shown: dict[str, Any] = {"payment_id": self.id, "status": self.status}
        if self.amount:
            shown |= {"amount": self.taken or self.amount, "currency": self.currency}
        if self.status in ("declined", "failed"):
            shown["reason"] = f"{self.status} by the bank"
        if self.status == "requires_action":
            shown["redirect_url"] = f"https://bank.example/confirm/{self.id}"
            shown["client_secret"] = f"secret_{self.id}"
        return shown


class Ledger:
    """A file of JSON lines, one a movement, that only grows."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = _cut_torn_line(path)
        self.lines: list[dict[str, Any]] = [json.loads(line) for line in whole.splitlines()]
        self._file = path.open("ab")

    def add(self, kind: str, **facts: Any) -> dict[str, Any]:
        """Add a line; it is in the file when this returns, and outlives the process."""
        line = {"seq": len(self.lines) + 1, "at": time.time(), "kind": kind, **facts}
        self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        self._file.flush()
        self.lines.append(line)
        return line

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def _cut_torn_line(path: Path) -> str:
    """Return the whole lines of a file, and cut off what a killed process wrote half."""
    content = path.read_bytes() if path.exists() else b""
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        os.truncate(path, len(whole))
    return whole.decode()


class Books:
    """The payments, as the ledger tells them; every change is a line first."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.payments: dict[str, Payment] = {}
        self.lock = threading.RLock()
        for line in ledger.lines:
            self._apply(line)

    def _note(self, kind: str, payment_id: str, **facts: Any) -> None:
        self._apply(self.ledger.add(kind, payment_id=payment_id, **facts))

    def _apply(self, line: dict[str, Any]) -> None:
        key, kind = line["payment_id"], line["kind"]
        if kind == "authorise":
            # One that was approved is under way until its capture follows.
            status = "processing" if line["outcome"] == "approved" else line["outcome"]
            self.payments[key] = Payment(key, status, line["amount"], line["currency"], line["token"])
            return
        payment = self.payments.setdefault(key, Payment(key, "cancelled"))
        if kind == "capture":
            payment.status, payment.taken, payment.currency = "captured", line["amount"], line["currency"]
            payment.amount = payment.amount or line["amount"]
        elif kind == "cancel":
            payment.status = line["outcome"]
        else:
            payment.refunds[line["refund_id"]] = Decimal(line["amount"])

    def charge(
        self, payment_id: str, amount: str, currency: str, token: str | None, plan: Plan
    ) -> tuple[Payment, bool]:
        """Take a payment, once; return it and whether it is new."""
        with self.lock:
            known = self.payments.get(payment_id)
            if known:
                if known.amount and (known.amount, known.currency) != (amount, currency):
                    raise Refused(409, "payment_differs", "this id is that of another payment")
                return known, False
            outcome = "approved" if plan.outcome == "captured" else plan.outcome
            self._note(
                "authorise", payment_id, amount=amount, currency=currency, token=token, outcome=outcome
            )
            if outcome == "approved":
                taken = f"{Decimal(amount) * plan.factor:.2f}"
                self._note("capture", payment_id, amount=taken, currency=currency)
            return self.payments[payment_id], True

    def capture(self, payment_id: str, *, amount: str = "", currency: str = "", force: bool = False) -> bool:
        """Capture a payment that is under way, with `force` any; tell whether money moved."""
        with self.lock:
            payment = self.find(payment_id)
            if payment.status == "captured" or not (force or payment.status in OPEN):
                return False
            amount, currency = amount or payment.amount, currency or payment.currency
            if not amount or not currency:
                raise Refused(409, "no_amount", "this payment never came")
            self._note("capture", payment_id, amount=amount, currency=currency)
            return True

    def give_up(self, payment_id: str, outcome: str) -> Payment:
        """End a payment that is not captured, as failed or cancelled; also one that never came."""
        with self.lock:
            payment = self.payments.get(payment_id)
            if payment is None or payment.status in OPEN:
                self._note("cancel", payment_id, outcome=outcome)
            return self.payments[payment_id]

    def refund(self, refund_id: str, payment_id: str, amount: str, currency: str) -> None:
        """Give money back, once; raise `Refused` when there is not so much."""
        with self.lock:
            payment = self.find(payment_id)
            if refund_id in payment.refunds:
                return
            gone = sum(payment.refunds.values(), Decimal(amount))
            if payment.status != "captured" or currency != payment.currency or gone > Decimal(payment.taken):
                raise Refused(200, "refused", "more than what is there")
            self._note("refund", payment_id, refund_id=refund_id, amount=amount, currency=currency)

    def find(self, payment_id: str) -> Payment:
        """Return a payment; raise `Refused` when there is none."""
        payment = self.payments.get(payment_id)
        if payment is None:
            raise Refused(404, "payment_unknown", "no such payment came")
        return payment


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


class Counter(BaseHTTPRequestHandler):
    """Answers the shop and the lab."""

    bank: Bank
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle_any(self) -> None:
        """Answer one request."""
        try:
            length = int(self.headers.get("Content-Length") or 0)
            if length > LARGEST_BODY:
                self.close_connection = True
                raise Refused(413, "too_large")
            raw = self.rfile.read(length)
            self._route(raw)
        except Refused as refusal:
            self.answer(refusal.status, refusal.body)
        except ConnectionError:
            self.close_connection = True

    do_GET = do_PUT = do_POST = do_DELETE = handle_any

    def _route(self, raw: bytes) -> None:
        path = urlsplit(self.path).path
        for method, pattern, name in ROUTES:
            found = re.fullmatch(pattern, path)
            if found and method == self.command:
                if not path.startswith("/lab/"):
                    self._check_key()
                getattr(self, name)(_parse(raw), *found.groups())
                return
        raise Refused(404, "not_found")

    def _check_key(self) -> None:
        sent = self.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(sent, b"Bearer " + self.bank.key.encode()):
            raise Refused(401, "unauthorized")

    # --- For the shop ---

    def charge(self, body: Any, payment_id: str) -> None:
        """PUT /payments/ID."""
        amount, currency, token = _amount(body), _currency(body), body.get("token")
        if not (token is None or isinstance(token, str)):
            raise Refused(422, "invalid", "token")
        plan = self.bank.behaviour.plan(payment_id, token)
        if plan.arrival == "never":
            self._drop()
            return
        if plan.arrival == "late":
            time.sleep(self.bank.behaviour.late_reply_seconds)
        payment, to_tell = self.bank.charge(payment_id, amount, currency, token, plan)
        try:
            self._reply(plan.reply, payment.shown())
        finally:
            for delivery in to_tell:
                self.bank.herald.send(delivery)

    def look_up(self, _body: Any, payment_id: str) -> None:
        """GET /payments/ID."""
        self.answer(200, self.bank.books.find(payment_id).shown())

    def cancel(self, _body: Any, payment_id: str) -> None:
        """POST /payments/ID/cancel."""
        self.answer(200, self.bank.books.give_up(payment_id, "cancelled").shown())

    def refund(self, body: Any, payment_id: str, refund_id: str) -> None:
        """PUT /payments/ID/refunds/ID."""
        amount, currency = _amount(body), _currency(body)
        status, lost = self.bank.refund(refund_id, payment_id, amount, currency)
        if lost:
            self._drop()
            return
        shown = {"refund_id": refund_id, "payment_id": payment_id, "status": status}
        reason = {"reason": "refused by the bank"} if status == "refused" else {}
        self.answer(200, shown | {"amount": amount, "currency": currency} | reason)

    def _reply(self, how: str, shown: dict[str, Any]) -> None:
        if how == "drop":
            self._drop()
            return
        if how in ("late", "silent"):
            time.sleep(self.bank.behaviour.late_reply_seconds * (1 if how == "late" else 5))
        if how == "error":
            raise Refused(500, "internal", "something broke after the payment was taken")
        if how == "malformed":
            self._send(200, b'{"payment_id": "' + shown["payment_id"].encode() + b'", "status": "capt')
        elif how == "misaddressed":
            self.answer(200, shown | {"payment_id": "00000000-0000-7000-8000-000000000000"})
        elif how == "drip":
            self._drip(json.dumps(shown).encode())
        else:
            self.answer(200, shown)
            if how == "twice":
                self.answer(200, shown)

    def _drop(self) -> None:
        """Break the connection without an answer."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _drip(self, body: bytes) -> None:
        """Send an answer so slowly that no single wait is long, but all of them together are."""
        self.close_connection = True
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        for byte in head.encode() + body:
            self.wfile.write(bytes([byte]))
            time.sleep(0.2)

    # --- For the lab ---

    def lab_health(self, _body: Any) -> None:
        """GET /lab/health."""
        self.answer(200, {"status": "ok"})

    def lab_ledger(self, _body: Any) -> None:
        """GET /lab/ledger."""
        after = parse_qs(urlsplit(self.path).query).get("after", ["0"])[0]
        self.answer(200, self.bank.books.ledger.lines[int(after) if after.isdigit() else 0 :])

    def lab_webhooks(self, _body: Any) -> None:
        """GET /lab/webhooks."""
        shown = [
            {"body": d.body, "answers": d.answers, "taken": d.taken}
            for d in list(self.bank.herald.deliveries)
        ]
        self.answer(200, shown)

    def lab_behaviour(self, body: Any) -> None:
        """GET, PUT and DELETE /lab/behaviour."""
        if self.command == "PUT":
            self.bank.behaviour = self.bank.behaviour.changed(body)
        elif self.command == "DELETE":
            self.bank.behaviour = self.bank.first_behaviour
        self.answer(200, dataclasses.asdict(self.bank.behaviour))

    def lab_capture(self, body: Any, payment_id: str) -> None:
        """POST /lab/payments/ID/capture."""
        wanted = {name: str(body[name]) for name in ("amount", "currency") if name in body}
        self.answer(200, self.bank.end(payment_id, "captured", force=True, **wanted).shown())

    def lab_fail(self, _body: Any, payment_id: str) -> None:
        """POST /lab/payments/ID/fail."""
        self.answer(200, self.bank.end(payment_id, "failed").shown())

    def answer(self, status: int, body: Any) -> None:
        """Answer with JSON."""
        self._send(status, json.dumps(body).encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Keep quiet: the ledger says what happened."""


ROUTES = (
    ("PUT", f"/payments/({UUID})", "charge"),
    ("GET", f"/payments/({UUID})", "look_up"),
    ("POST", f"/payments/({UUID})/cancel", "cancel"),
    ("PUT", f"/payments/({UUID})/refunds/({UUID})", "refund"),
    ("GET", "/lab/health", "lab_health"),
    ("GET", "/lab/ledger", "lab_ledger"),
    ("GET", "/lab/webhooks", "lab_webhooks"),
    ("GET", "/lab/behaviour", "lab_behaviour"),
    ("PUT", "/lab/behaviour", "lab_behaviour"),
    ("DELETE", "/lab/behaviour", "lab_behaviour"),
    ("POST", f"/lab/payments/({UUID})/capture", "lab_capture"),
    ("POST", f"/lab/payments/({UUID})/fail", "lab_fail"),
)


class Hall(ThreadingHTTPServer):
    """A server with room for a burst of connections."""

    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet about callers who hang up."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _parse(raw: bytes) -> Any:
    try:
        body = json.loads(raw or b"{}")
    except ValueError:
        raise Refused(400, "invalid_json") from None
    if not isinstance(body, dict):
        raise Refused(422, "invalid", "an object is expected")
    return body


def _amount(body: Any) -> str:
    amount = body.get("amount")
    if not isinstance(amount, str) or not AMOUNT.fullmatch(amount) or not Decimal(amount):
        raise Refused(422, "invalid", "amount")
    return amount


def _currency(body: Any) -> str:
    currency = body.get("currency")
    if not isinstance(currency, str) or not re.fullmatch("[A-Z]{3}", currency, re.ASCII):
        raise Refused(422, "invalid", "currency")
    return currency


def main() -> None:
    """Read the options and serve until told to end."""
    parser = argparse.ArgumentParser(description="A payment provider that keeps a ledger and misbehaves.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--key", default="bank-key-for-tests")
    parser.add_argument("--webhook-url", default="")
    parser.add_argument("--webhook-secret", default="bank-webhook-secret-for-tests")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    behaviour = Behaviour(
        seed=options.seed, webhook_url=options.webhook_url, webhook_secret=options.webhook_secret
    )
    bank = Bank(options.ledger, options.key, behaviour)
    server = Hall((options.host, options.port), type("BankCounter", (Counter,), {"bank": bank}))
    for number in (signal.SIGTERM, signal.SIGINT):
        # Nothing is left to be done at the end: what counts is in the file.
        signal.signal(number, lambda *_: os._exit(0))
    server.serve_forever()


if __name__ == "__main__":
    main()
