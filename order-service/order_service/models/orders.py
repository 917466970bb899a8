"""Orders, from the durable intent to the receipt."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    SmallInteger,
    String,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship
from sqlalchemy.sql.dml import ReturningUpdate

from chassis.money import PRICE_COLUMN, SUM_COLUMN
from order_service.errors import (
    IllegalMove,
    OrderNotCancellable,
    OrderNotCompletable,
    OrderNotPayable,
    OrderNotRefundable,
    OrderNotShippable,
)
from order_service.models.base import NOTHING, TIME, db, now
from order_service.models.payments import LIVE, Payment

# An intent that became no order yet, or never will: in no list, 404 for everybody.
HIDDEN = ("reserving", "abandoned")


class OrderItem(db.Model):  # type: ignore[name-defined]
    """One line of an order, with the name and price of the moment."""

    __tablename__ = "order_items"
    # The books of a product are compared with the product service's.
    __table_args__ = (Index(None, "product_id", "order_id", postgresql_include=["quantity"]),)

    order_id: Mapped[UUID] = mapped_column(ForeignKey("orders.id"), primary_key=True)
    product_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    position: Mapped[int] = mapped_column(SmallInteger)
    sku: Mapped[str]
    name: Mapped[str]
    unit_price: Mapped[Decimal] = mapped_column(PRICE_COLUMN)
    quantity: Mapped[int] = mapped_column(SmallInteger)

    @property
    def subtotal(self) -> Decimal:
        """Price times quantity."""
        return self.unit_price * self.quantity


class Order(db.Model):  # type: ignore[name-defined]
    """An order, from the durable intent to the receipt; one method a move, an illegal one raises."""

    __tablename__ = "orders"
    __table_args__ = (
        # A version of a cart becomes one order, and may be tried again when that came to nothing.
        Index(
            "uq_orders_user_id_cart_version",
            "user_id",
            "cart_version",
            unique=True,
            postgresql_where=text("status <> 'abandoned'"),
        ),
        Index("ix_orders_due", "expires_at", postgresql_where=text("status = 'pending'")),
        Index("ix_orders_reserving", "created_at", postgresql_where=text("status = 'reserving'")),
        # Without the hidden ones: a list would walk over all of them that lie between two of its orders.
        Index(
            "ix_orders_user_id_created_at",
            "user_id",
            "created_at",
            "id",
            postgresql_where=text(f"status NOT IN {HIDDEN}"),
        ),
        Index("ix_orders_created_at", "created_at", "id", postgresql_where=text(f"status NOT IN {HIDDEN}")),
        Index("ix_orders_status_created_at", "status", "created_at", "id"),
        CheckConstraint(
            "status IN ('reserving', 'abandoned', 'pending', 'paid', 'shipped', 'completed', 'cancelled')",
            name="status",
        ),
        CheckConstraint(
            "status NOT IN ('paid', 'shipped', 'completed') OR payment_time IS NOT NULL", name="paid"
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[str] = mapped_column(String(20), default="reserving")
    total_amount: Mapped[Decimal] = mapped_column(SUM_COLUMN, default=NOTHING)
    currency: Mapped[str] = mapped_column(String(3))
    # The lines as they were asked for: who takes the request over goes on with exactly these.
    requested: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    cart_version: Mapped[int | None] = mapped_column(BigInteger)
    address: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    remark: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(TIME, default=now)
    updated_at: Mapped[datetime] = mapped_column(TIME, default=now, onupdate=now)
    expires_at: Mapped[datetime | None] = mapped_column(TIME)
    payment_time: Mapped[datetime | None] = mapped_column(TIME)
    carrier: Mapped[str | None]
    tracking_number: Mapped[str | None]
    shipped_at: Mapped[datetime | None] = mapped_column(TIME)

    # Two statements for any number of orders.
    items: Mapped[list[OrderItem]] = relationship(lazy="selectin", order_by=OrderItem.position)
    payments: Mapped[list[Payment]] = relationship(lazy="selectin", order_by=[Payment.created_at, Payment.id])

    @property
    def is_hidden(self) -> bool:
        """Tell whether nobody may see it."""
        return self.status in HIDDEN

    @property
    def payment(self) -> Payment | None:
        """The payment that counts: the one that paid it, else an open one, else money that came late."""
        captured = [payment for payment in self.payments if payment.has_money]
        paying = [payment for payment in captured if not payment.late]
        live = [payment for payment in self.payments if payment.is_live]
        return next(reversed(paying or live or captured or self.payments), None)

    @property
    def live_payment(self) -> Payment | None:
        """The payment whose end is open."""
        return next((payment for payment in self.payments if payment.is_live), None)

    def find_payment(self, payment_id: UUID) -> Payment | None:
        """Return one of its payments, if it is one."""
        return next((payment for payment in self.payments if payment.id == payment_id), None)

    def get_payment(self, payment_id: UUID) -> Payment:
        """Return a payment that is one of its own."""
        return {payment.id: payment for payment in self.payments}[payment_id]

    @property
    def shipment(self) -> dict[str, Any] | None:
        """Who carries it, once it was shipped."""
        if self.shipped_at is None:
            return None
        return {
            "carrier": self.carrier,
            "tracking_number": self.tracking_number,
            "shipped_at": self.shipped_at,
        }

    def confirm(self, items: Sequence[OrderItem], *, expires_at: datetime) -> None:
        """Make the intent an order: its lines are reserved."""
        if self.status != "reserving":
            raise IllegalMove(f"confirmed while {self.status}")
        self.items = list(items)
        self.total_amount = sum((item.subtotal for item in items), NOTHING)
        self.expires_at = expires_at
        self.status = "pending"

    def abandon(self) -> None:
        """Give the intent up."""
        if self.status != "reserving":
            raise IllegalMove(f"abandoned while {self.status}")
        self.status = "abandoned"

    def check_payable(self, at: datetime) -> None:
        """Raise unless a payment may begin."""
        if self.status != "pending" or self.expires_at is None or self.expires_at <= at:
            raise OrderNotPayable

    def begin_payment(self, payment_id: UUID, method: str, *, first_check_at: datetime) -> Payment:
        """Add an attempt to pay all of it."""
        payment = Payment(
            id=payment_id,
            method=method,
            status="processing",
            amount=self.total_amount,
            currency=self.currency,
            refunded_amount=NOTHING,
            refunding_amount=NOTHING,
            next_check_at=first_check_at,
        )
        self.payments.append(payment)
        return payment

    def pay(self, at: datetime) -> None:
        """Note that its money is there; a payment that began in time may end later."""
        if self.status != "pending":
            raise OrderNotPayable
        self.status, self.payment_time = "paid", at

    def cancel(self) -> None:
        """Cancel it before it is shipped."""
        if self.status not in ("pending", "paid"):
            raise OrderNotCancellable
        self.status = "cancelled"

    @classmethod
    def expire(cls, ids: Sequence[UUID], at: datetime) -> "ReturningUpdate[tuple[Order]]":
        """Make the statement that cancels those orders whose payment is neither there nor under way."""
        under_way = select(Payment.id).where(Payment.order_id == cls.id, Payment.status.in_(LIVE))
        still_due = update(cls).where(cls.id.in_(ids), cls.status == "pending", ~under_way.exists())
        return still_due.values(status="cancelled", updated_at=at).returning(cls)

    def ship(self, carrier: str, tracking_number: str, at: datetime) -> None:
        """Hand it to the carrier, unless all of its money is back or on its way back."""
        if self.status != "paid" or self.payment is None or not self.payment.left:
            raise OrderNotShippable
        self.status, self.shipped_at = "shipped", at
        self.carrier, self.tracking_number = carrier, tracking_number

    def complete(self) -> None:
        """Note that the buyer has it."""
        if self.status != "shipped":
            raise OrderNotCompletable
        self.status = "completed"

    def refundable_payment(self) -> Payment:
        """Return the payment of which money may go back."""
        if self.status not in ("paid", "shipped", "completed") or self.payment is None:
            raise OrderNotRefundable
        return self.payment

    def is_entitled_to(self, payment: Payment) -> bool:
        """Tell whether the shop may keep a payment's money for it."""
        return self.status != "cancelled" and not payment.late and payment is self.payment


class Release(db.Model):  # type: ignore[name-defined]
    """A reservation to give back: due until the product service has confirmed it."""

    __tablename__ = "releases"
    __table_args__ = (Index(None, "next_try_at"),)

    order_id: Mapped[UUID] = mapped_column(primary_key=True)
    tries: Mapped[int] = mapped_column(default=0)
    next_try_at: Mapped[datetime] = mapped_column(TIME, default=now)
