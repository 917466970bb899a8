"""Carts."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from order_service.models.base import TIME, db, now


class Cart(db.Model):  # type: ignore[name-defined]
    """One person's cart; each change gives it a new version, and a version can be ordered once."""

    __tablename__ = "carts"

    user_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    version: Mapped[int] = mapped_column(BigInteger)


class CartItem(db.Model):  # type: ignore[name-defined]
    """One product in a cart, and the cart's version that put it there as it is."""

    __tablename__ = "cart_items"
    __table_args__ = (CheckConstraint("quantity BETWEEN 1 AND 99", name="quantity"),)

    user_id: Mapped[int] = mapped_column(ForeignKey("carts.user_id"), primary_key=True)
    product_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    quantity: Mapped[int] = mapped_column(SmallInteger)
    version: Mapped[int] = mapped_column(BigInteger)
    added_at: Mapped[datetime] = mapped_column(TIME, default=now)
