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

    `captured`, `declined` and `cancelled` are final: a charge that is cancelled will never be captured.
    """

    status: Literal["captured", "declined", "processing", "requires_action", "cancelled"]
    reason: str = ""
    redirect_url: str | None = None
    client_secret: str | None = None


@dataclass(frozen=True)
class Repayment:
    """What the provider's books say of a refund; `done` and `refused` are final."""

    status: Literal["done", "processing", "refused"]
    reason: str = ""


class Provider(Protocol):
    """A payment provider; each call answers within some 2 s or raises `Unknown`."""

    method: str
    name: str
    moves_money: bool  # a test method does not

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
