"""What providers told: which webhooks were taken, and what of all news fits no payment."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import BigInteger, Identity, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from chassis.money import SUM_COLUMN
from order_service.models.base import TIME, db, now


class Webhook(db.Model):  # type: ignore[name-defined]
    """A webhook that was taken; the same one again changes nothing."""

    __tablename__ = "webhooks"
    __table_args__ = (Index(None, "received_at"),)

    method: Mapped[str] = mapped_column(String(40), primary_key=True)
    id: Mapped[str] = mapped_column(String(255), primary_key=True)
    received_at: Mapped[datetime] = mapped_column(TIME, default=now)


class PaymentAnomaly(db.Model):  # type: ignore[name-defined]
    """News of money that fits no payment of ours: of another amount, or of a payment that nobody began.

    `source` is the webhook's id, or `books` when the provider was asked; each is kept once.
    """

    __tablename__ = "payment_anomalies"
    __table_args__ = (
        UniqueConstraint(
            "payment_id", "method", "source", "amount", "currency", name="uq_payment_anomalies_news"
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    # No foreign key: the payment may be one that we do not have.
    payment_id: Mapped[UUID]
    order_id: Mapped[UUID | None]
    method: Mapped[str] = mapped_column(String(40))
    reason: Mapped[str] = mapped_column(String(20))
    source: Mapped[str] = mapped_column(String(263))
    told: Mapped[str] = mapped_column(String(20))
    amount: Mapped[Decimal] = mapped_column(SUM_COLUMN)
    currency: Mapped[str] = mapped_column(String(3))
    expected_amount: Mapped[Decimal | None] = mapped_column(SUM_COLUMN)
    expected_currency: Mapped[str | None] = mapped_column(String(3))
    created_at: Mapped[datetime] = mapped_column(TIME, default=now)
