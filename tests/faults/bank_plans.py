"""What may happen to a payment at the bank, and how the bank as a whole behaves."""

import dataclasses
import random
from dataclasses import dataclass
from decimal import Decimal
from typing import Any


class Refused(Exception):
    """A request that the bank can't take, with the answer to it."""

    def __init__(self, status: int, code: str, detail: str = "") -> None:
        super().__init__(detail or code)
        self.status, self.body = status, {"code": code, "detail": detail or code}


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
