"""The sandbox: a provider that moves no money, yet keeps books as a real one does.

Its two tables are its own: it writes them in transactions of its own, and nobody else reads them, so that
what the shop does not know it really has to ask.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy.exc
from sqlalchemy import CheckConstraint, DateTime, Engine, String, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from chassis.db import is_database_away, transaction
from chassis.money import SUM_COLUMN
from order_service.models import NOTHING, db
from order_service.payments.base import ANSWER_SECONDS, Charge, Repayment, Unknown

DECLINED = "declined by the sandbox"


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

    Absent or `tok_success` pays, `tok_timeout` pays without answering, all others are declined.
    """

    method = "sandbox"
    name = "Sandbox (no money moves)"
    moves_money = False

    def __init__(self, engine: Callable[[], Engine], silent_seconds: float = ANSWER_SECONDS) -> None:
        self._engine, self._silent_seconds = engine, silent_seconds

    def charge(self, payment_id: UUID, *, amount: Decimal, currency: str, token: str | None) -> Charge:
        """Take the amount, once."""
        pays = token in (None, "tok_success", "tok_timeout")
        values = {"amount": amount, "currency": currency, "status": "captured" if pays else "declined"}
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
            return _enter(books, payment_id, {"status": "cancelled"})

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


def _enter(books: Session, key: UUID, values: dict[str, Any]) -> Charge:
    """Write a charge unless its key is there; return what the books say then."""
    books.execute(insert(SandboxCharge).values(key=key, **values).on_conflict_do_nothing())
    charge = _read(books, key)
    assert charge is not None
    return charge


def _read(books: Session, key: UUID) -> Charge | None:
    status: Any = books.scalar(select(SandboxCharge.status).where(SandboxCharge.key == key))
    return Charge(status, DECLINED if status == "declined" else "") if status else None
