"""The bank's books: payments as its ledger tells them, a file to which lines are only ever added."""

import json
import os
import threading
import time
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.faults.bank_plans import Plan, Refused

OPEN = ("processing", "requires_action")


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
