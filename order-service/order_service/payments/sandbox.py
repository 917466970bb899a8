"""The sandbox: a provider that moves no money, yet keeps books as a real one does.

Its two tables are its own: it writes them in transactions of its own, and nobody else reads them, so that
what the shop does not know it really has to ask.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import sqlalchemy.exc
from sqlalchemy import CheckConstraint, DateTime, Engine, String, and_, func, select, true, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from chassis.db import is_database_away, transaction
from chassis.money import SUM_COLUMN
from chassis.reading import parse_body
from order_service.models import NOTHING, db
from order_service.payments.base import ANSWER_SECONDS, Charge, News, Repayment, Unknown
from order_service.payments.signatures import check_signature
from order_service.schemas import WebhookIn

REASONS = {"declined": "declined by the sandbox", "failed": "failed at the sandbox"}
OUTCOMES = {
    None: "captured",
    "tok_success": "captured",
    "tok_timeout": "captured",
    "tok_async": "processing",
}


class SandboxCharge(db.Model):  # type: ignore[name-defined]
    """A charge, by the shop's payment id; a cancelled one may stand for one that never came."""

    __tablename__ = "sandbox_charges"
    __table_args__ = (CheckConstraint("refunded <= amount", name="refunded"),)

    key: Mapped[UUID] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(String(20))
    amount: Mapped[Decimal] = mapped_column(SUM_COLUMN, default=NOTHING)
    currency: Mapped[str] = mapped_column(String(3), default="")
    refunded: Mapped[Decimal] = mapped_column(SUM_COLUMN, default=NOTHING)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class SandboxRefund(db.Model):  # type: ignore[name-defined]
    """A refund, by the shop's refund id."""

    __tablename__ = "sandbox_refunds"

    key: Mapped[UUID] = mapped_column(primary_key=True)
    charge_key: Mapped[UUID] = mapped_column(index=True)
    amount: Mapped[Decimal] = mapped_column(SUM_COLUMN)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class Sandbox:
    """The provider of the test method `sandbox`; the token says what happens.

    Absent or `tok_success` pays, `tok_timeout` pays without answering, `tok_async` waits for a webhook, all
    others are declined. Whoever knows the secret speaks for the sandbox: its books follow the webhook.
    """

    method = "sandbox"
    name = "Sandbox (no money moves)"
    moves_money = False
    takes_payments = True

    def __init__(
        self, engine: Callable[[], Engine], webhook_secret: str, silent_seconds: float = ANSWER_SECONDS
    ) -> None:
        self._engine, self._secret, self._silent_seconds = engine, webhook_secret, silent_seconds

    def charge(self, payment_id: UUID, *, amount: Decimal, currency: str, token: str | None) -> Charge:
        """Take the amount, once."""
        values = {"amount": amount, "currency": currency, "status": OUTCOMES.get(token, "declined")}
        with self._books() as books:
            charge = _enter(books, payment_id, values)
        if token == "tok_timeout":
            time.sleep(self._silent_seconds)
            raise Unknown("the sandbox does not answer")
        return charge

    def lookup(self, payment_id: UUID) -> Charge | None:
        """Return what became of a charge."""
        with self._books() as books:
            return _read(books, payment_id)

    def cancel(self, payment_id: UUID) -> Charge:
        """Stop a charge, also one that may still arrive."""
        with self._books() as books:
            return _enter(books, payment_id, {"status": "cancelled"}, over=("processing",))

    def read_webhook(self, body: bytes, *, signature: str) -> News:
        """Return what a webhook says, once the books say it too.

        Money that moved is entered whatever they said before; its failure only where nothing was decided.
        News of another amount than that of the charge leave them alone.
        """
        check_signature(self._secret, body, signature)
        told = parse_body(WebhookIn, body)
        status: Literal["captured", "failed"] = "captured" if told.type == "payment.succeeded" else "failed"
        over = ("processing", "failed", "declined", "cancelled") if status == "captured" else ("processing",)
        values = {"amount": told.amount, "currency": told.currency, "status": status}
        with self._books() as books:
            _enter(books, told.payment_id, values, over=over)
        reason = REASONS.get(status, "")
        return News(told.id, told.payment_id, Charge(status, reason, told.amount, told.currency))

    def refund(self, refund_id: UUID, *, payment_id: UUID, amount: Decimal, currency: str) -> Repayment:
        """Give back an amount of a captured charge, once."""
        with self._books() as books:
            charge = books.scalar(
                select(SandboxCharge).where(SandboxCharge.key == payment_id).with_for_update()
            )
            if books.get(SandboxRefund, refund_id):
                return Repayment("done")
            if charge is None or charge.status != "captured" or charge.currency != currency:
                return Repayment("refused", "there is no such charge")
            if charge.refunded + amount > charge.amount:
                return Repayment("refused", "more than was captured")
            books.execute(insert(SandboxRefund).values(key=refund_id, charge_key=payment_id, amount=amount))
            books.execute(
                update(SandboxCharge)
                .where(SandboxCharge.key == payment_id)
                .values(refunded=SandboxCharge.refunded + amount)
            )
            return Repayment("done")

    @contextmanager
    def _books(self) -> Iterator[Session]:
        """Open the books in a transaction; when they can't be reached, nobody knows what they say."""
        try:
            with Session(self._engine()) as session, transaction(session):
                yield session
        except sqlalchemy.exc.SQLAlchemyError as error:
            if is_database_away(error):
                raise Unknown("the sandbox's books are away") from error
            raise


def _enter(books: Session, key: UUID, values: dict[str, Any], over: Sequence[str] = ()) -> Charge:
    """Write a charge, also over one of that status; return what the books say then.

    What a charge is of never changes, but one that was cancelled before it came is of nothing yet.
    """
    same = and_(
        true(), *(getattr(SandboxCharge, k) == values[k] for k in ("amount", "currency") if k in values)
    )
    entry = insert(SandboxCharge).values(key=key, **values)
    fits = SandboxCharge.status.in_(over) & (same | (SandboxCharge.currency == ""))
    books.execute(entry.on_conflict_do_update(index_elements=["key"], set_=values, where=fits))
    charge = _read(books, key)
    assert charge is not None
    return charge


def _read(books: Session, key: UUID) -> Charge | None:
    statement = select(SandboxCharge.status, SandboxCharge.amount, SandboxCharge.currency)
    row = books.execute(statement.where(SandboxCharge.key == key)).one_or_none()
    if row is None:
        return None
    if row.status == "captured":
        return Charge("captured", amount=row.amount, currency=row.currency)
    return Charge(row.status, REASONS.get(row.status, ""))
