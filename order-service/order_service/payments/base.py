"""What the shop asks of a payment provider.

A provider keeps its own books under the ids that we choose, so every call may be repeated: it has its
effect once, and its answer is the same. What is asked twice with one id is one charge or one refund.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, Protocol
from uuid import UUID

ANSWER_SECONDS = 2.0


class Unknown(Exception):
    """The provider gave no definite answer: it may have acted or not."""


@dataclass(frozen=True)
class Charge:
    """What the provider's books say of a charge.

    `captured`, `declined`, `failed` and `cancelled` are final: a charge that is cancelled will never be
    captured. A provider may err all the same: later news of money count whatever it said before. `amount`
    and `currency` are what it really took, where it says so.
    """

    status: Literal["captured", "declined", "failed", "processing", "requires_action", "cancelled"]
    reason: str = ""
    amount: Decimal | None = None
    currency: str | None = None
    redirect_url: str | None = None
    client_secret: str | None = None


@dataclass(frozen=True)
class Repayment:
    """What the provider's books say of a refund; `done` and `refused` are final."""

    status: Literal["done", "processing", "refused"]
    reason: str = ""


@dataclass(frozen=True)
class News:
    """What a webhook says of a charge; its id is the same whenever the provider tells it again."""

    id: str
    payment_id: UUID
    charge: Charge


class Provider(Protocol):
    """A payment provider; each call answers within some 2 s or raises `Unknown`."""

    method: str
    name: str
    moves_money: bool  # a test method does not
    takes_payments: bool  # one that does not still settles what it began, as far as it can

    def charge(self, payment_id: UUID, *, amount: Decimal, currency: str, token: str | None) -> Charge:
        """Take the amount, once."""
        ...

    def lookup(self, payment_id: UUID) -> Charge | None:
        """Return what became of a charge, None when it never arrived (yet)."""
        ...

    def cancel(self, payment_id: UUID) -> Charge:
        """Stop a charge, also one that may still arrive; `captured` when it is too late."""
        ...

    def refund(self, refund_id: UUID, *, payment_id: UUID, amount: Decimal, currency: str) -> Repayment:
        """Give back an amount of a captured charge, once."""
        ...

    def read_webhook(self, body: bytes, *, signature: str) -> News:
        """Return what a webhook says; raise `InvalidSignature` unless the provider sent it just now."""
        ...
