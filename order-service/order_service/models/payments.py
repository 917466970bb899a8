"""Payments and refunds: each attempt, and which moves it allows."""

from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, false, text
from sqlalchemy.orm import Mapped, mapped_column
from uuid_utils.compat import uuid7

from chassis.money import SUM_COLUMN
from order_service.errors import IllegalMove, RefundExceedsPayment, RefundNotRefused
from order_service.models.base import NOTHING, TIME, db, now

LIVE = ("processing", "requires_action")
# In seconds; an order waits for its payment, nothing for its refund.
LONGEST_BETWEEN_CHECKS, LONGEST_BETWEEN_TRIES = 60, 3600


class Payment(db.Model):  # type: ignore[name-defined]
    """One attempt to pay an order; its id is the key under which the provider knows it."""

    __tablename__ = "payments"
    __table_args__ = (
        # At most one attempt of an order has an open end.
        Index(
            "uq_payments_live_order_id",
            "order_id",
            unique=True,
            postgresql_where=text("status IN ('processing', 'requires_action')"),
        ),
        Index(
            "ix_payments_next_check_at",
            "next_check_at",
            postgresql_where=text("status IN ('processing', 'requires_action')"),
        ),
        CheckConstraint("amount > 0", name="amount"),
        CheckConstraint(
            "refunded_amount >= 0 AND refunding_amount >= 0 AND refunded_amount + refunding_amount <= amount",
            name="refunds",
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    order_id: Mapped[UUID] = mapped_column(ForeignKey("orders.id"), index=True)
    method: Mapped[str] = mapped_column(String(40))
    status: Mapped[str] = mapped_column(String(20), default="processing")
    amount: Mapped[Decimal] = mapped_column(SUM_COLUMN)
    currency: Mapped[str] = mapped_column(String(3))
    refunded_amount: Mapped[Decimal] = mapped_column(SUM_COLUMN, default=NOTHING)
    refunding_amount: Mapped[Decimal] = mapped_column(SUM_COLUMN, default=NOTHING)
    redirect_url: Mapped[str | None]
    client_secret: Mapped[str | None]
    reason: Mapped[str | None]
    # Its money came when the order could not take it: it goes back, and the order is not paid by it.
    late: Mapped[bool] = mapped_column(default=False, server_default=false())
    checks: Mapped[int] = mapped_column(default=0)
    next_check_at: Mapped[datetime] = mapped_column(TIME)
    created_at: Mapped[datetime] = mapped_column(TIME, default=now)
    updated_at: Mapped[datetime] = mapped_column(TIME, default=now, onupdate=now)

    @property
    def is_live(self) -> bool:
        """Tell whether its end is still open."""
        return self.status in LIVE

    @property
    def has_money(self) -> bool:
        """Tell whether the provider ever captured it."""
        return self.status in ("captured", "refunding", "partially_refunded", "refunded")

    @property
    def left(self) -> Decimal:
        """What is neither given back nor on its way back."""
        return self.amount - self.refunded_amount - self.refunding_amount

    def check_soon(self, at: datetime) -> None:
        """Have the provider asked soon what became of it, before those that were asked about already."""
        self.checks, self.next_check_at = 0, at

    def put_off(self, at: datetime) -> None:
        """Have the provider asked later, after a longer pause each time."""
        self.checks += 1
        self.next_check_at = at + _pause(self.checks, longest=LONGEST_BETWEEN_CHECKS)

    def capture(self, *, late: bool = False) -> None:
        """Note that the provider has the money; also of an attempt that was given up before."""
        if self.has_money:
            raise IllegalMove("captured twice")
        self.status, self.reason, self.late = "captured", None, late

    def decline(self, reason: str) -> None:
        """Note that the provider said no."""
        self._end("declined", reason)

    def fail(self, reason: str) -> None:
        """Note that the provider will never take it."""
        self._end("failed", reason)

    def require_action(self, redirect_url: str | None, client_secret: str | None) -> None:
        """Note what the buyer has to do at the provider's."""
        if not self.is_live:
            raise IllegalMove(f"action required of a payment that is {self.status}")
        self.status = "requires_action"
        self.redirect_url, self.client_secret = redirect_url, client_secret

    def _end(self, status: str, reason: str) -> None:
        if not self.is_live:
            raise IllegalMove(f"{status} after {self.status}")
        self.status, self.reason = status, reason

    def begin_refund(self, amount: Decimal) -> None:
        """Set an amount aside that goes back."""
        if not self.has_money:
            raise IllegalMove(f"refund of a payment that is {self.status}")
        if not NOTHING < amount <= self.left:
            raise RefundExceedsPayment(left=f"{self.left:.2f}")
        self.refunding_amount += amount
        self._show_refunds()

    def finish_refund(self, amount: Decimal) -> None:
        """Note that an amount set aside is back."""
        self.refunding_amount -= amount
        self.refunded_amount += amount
        self._show_refunds()

    def drop_refund(self, amount: Decimal) -> None:
        """Note that an amount set aside stays."""
        self.refunding_amount -= amount
        self._show_refunds()

    def _show_refunds(self) -> None:
        if self.refunding_amount:
            self.status = "refunding"
        elif self.refunded_amount == self.amount:
            self.status = "refunded"
        else:
            self.status = "partially_refunded" if self.refunded_amount else "captured"


class Refund(db.Model):  # type: ignore[name-defined]
    """Money on its way back; its id is the key under which the provider knows it."""

    __tablename__ = "refunds"
    __table_args__ = (
        Index("ix_refunds_next_try_at", "next_try_at", postgresql_where=text("status = 'processing'")),
        CheckConstraint("amount > 0", name="amount"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    payment_id: Mapped[UUID] = mapped_column(ForeignKey("payments.id"), index=True)
    order_id: Mapped[UUID] = mapped_column(ForeignKey("orders.id"), index=True)
    status: Mapped[str] = mapped_column(String(20), default="processing")
    amount: Mapped[Decimal] = mapped_column(SUM_COLUMN)
    reason: Mapped[str]
    tries: Mapped[int] = mapped_column(default=0)
    next_try_at: Mapped[datetime] = mapped_column(TIME)
    created_at: Mapped[datetime] = mapped_column(TIME, default=now)
    updated_at: Mapped[datetime] = mapped_column(TIME, default=now, onupdate=now)

    @property
    def is_open(self) -> bool:
        """Tell whether the provider has given no definite answer yet."""
        return self.status == "processing"

    def put_off(self, at: datetime) -> None:
        """Have the provider asked again later, after a longer pause each time."""
        self.tries += 1
        self.next_try_at = at + _pause(self.tries, longest=LONGEST_BETWEEN_TRIES)

    def finish(self) -> None:
        """Note that the money is back."""
        self._end("done")

    def refuse(self) -> None:
        """Note that the provider won't give it back."""
        self._end("refused")

    def settle(self) -> None:
        """Note that the money went back after all, by another way."""
        if self.status != "refused":
            raise RefundNotRefused
        self.status = "settled"

    def _end(self, status: str) -> None:
        if not self.is_open:
            raise IllegalMove(f"refund {status} after {self.status}")
        self.status = status


def _pause(tries: int, *, longest: int) -> timedelta:
    """Return how long to wait after so many questions: every 15 s for some 10 minutes, then ever longer.

    A bank may take days over a refund; thousands of those must leave the time to ask about new ones.
    """
    often = min(2 ** min(tries, 4), 15)
    return timedelta(seconds=min(often * 2 ** min(max(tries - 40, 0), 8), longest))
