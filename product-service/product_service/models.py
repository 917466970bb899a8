"""Tables of the catalogue and of its stock, with the rules that need no database."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Computed,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.orm import Mapped, Unmapped, mapped_column, unmapped_column

from chassis.db import make_db
from chassis.errors import Invalid
from chassis.money import PRICE_COLUMN
from product_service.errors import InsufficientStock

MAX_INTEGER = 2**31 - 1

db = make_db()

ACTIVE = text("status = 'active'")
NOW = func.now()


class Category(db.Model):  # type: ignore[name-defined]
    """A place in the tree of categories."""

    __tablename__ = "categories"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("categories.id"), index=True)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=NOW)


class Product(db.Model):  # type: ignore[name-defined]
    """Something for sale; `stock` is what can still be sold.

    `version` counts the changes an administrator made, `stock_version` those of the stock.
    """

    __tablename__ = "products"
    __table_args__ = (
        CheckConstraint("price > 0", name="price_is_positive"),
        CheckConstraint("stock >= 0", name="stock_is_not_negative"),
        CheckConstraint("status IN ('active', 'archived')", name="status_is_known"),
        # One index for each order of the list. None holds what an order changes: selling stays a HOT update.
        Index("ix_products_newest", "id", postgresql_where=ACTIVE),
        Index("ix_products_by_price", "price", "id", postgresql_where=ACTIVE),
        Index("ix_products_by_sales", "sales", "id", postgresql_where=ACTIVE),
        Index("ix_products_by_category", "category_id", "id"),
        Index("ix_products_words", "words", postgresql_using="gin"),
    )
    # `updated_at` comes back with the UPDATE itself.
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    sku: Mapped[str] = mapped_column(Text, unique=True)
    name: Mapped[str] = mapped_column(Text)
    description: Mapped[str | None] = mapped_column(Text)
    price: Mapped[Decimal] = mapped_column(PRICE_COLUMN)
    # Wider than what the API lets in, so that giving stock back can never fail.
    stock: Mapped[int] = mapped_column(BigInteger, server_default="0")
    sales: Mapped[int] = mapped_column(BigInteger, server_default="0")
    category_id: Mapped[int | None] = mapped_column(ForeignKey("categories.id"))
    image_url: Mapped[str | None] = mapped_column(Text)
    low_stock_threshold: Mapped[int] = mapped_column(Integer, server_default="5")
    status: Mapped[str] = mapped_column(Text, server_default="active")
    version: Mapped[int] = mapped_column(Integer, server_default="1")
    stock_version: Mapped[int] = mapped_column(BigInteger, server_default="1")
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=NOW)
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=NOW, onupdate=NOW)

    # For the index and for ordering; no row carries them to Python.
    name_words: Unmapped[Any] = unmapped_column(
        TSVECTOR, Computed("search_words(name, true)", persisted=True)
    )
    words: Unmapped[Any] = unmapped_column(
        TSVECTOR,
        Computed(
            "search_words((name || ' '::text) || COALESCE(description, ''::text), true)", persisted=True
        ),
    )

    def change(self, changes: Mapping[str, Any]) -> None:
        """Take over an administrator's changes, as a new version."""
        for name, value in changes.items():
            setattr(self, name, value)
        self.version += 1

    def archive(self) -> None:
        """Take the product out of the shop; orders keep their copy of it."""
        if self.status == "active":
            self.change({"status": "archived"})

    def adjust_stock(self, delta: int) -> None:
        """Book a delivery, a loss or a return."""
        if self.stock + delta < 0:
            raise InsufficientStock.of((self.id, -delta, self.stock))
        if self.stock + delta > MAX_INTEGER:
            raise Invalid("delta", f"the stock would exceed {MAX_INTEGER}")
        self.stock += delta
        self.stock_version += 1


class StockMovement(db.Model):  # type: ignore[name-defined]
    """One line of the ledger: a product's deltas add up to its stock."""

    __tablename__ = "stock_movements"
    __table_args__ = (
        Index("ix_stock_movements_product", "product_id", "id"),
        # Few among those that orders made: a product's books are added up from it alone.
        Index(
            "ix_stock_movements_books",
            "product_id",
            postgresql_include=["delta", "reason"],
            postgresql_where=text("order_id IS NULL"),
        ),
        CheckConstraint("delta <> 0", name="delta_is_not_zero"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    delta: Mapped[int] = mapped_column(BigInteger)
    reason: Mapped[str] = mapped_column(Text)
    order_id: Mapped[UUID | None]
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=NOW)


class Reservation(db.Model):  # type: ignore[name-defined]
    """What became of an order's stock: `held`, then `sold`, then `released`; never back.

    `released` without lines is a tombstone: the order was given up before it ever reserved.
    """

    __tablename__ = "reservations"
    __table_args__ = (
        CheckConstraint("status IN ('held', 'sold', 'released')", name="status_is_known"),
        # Those that are to be forgotten one day; selling makes no entry.
        Index("ix_reservations_released", "updated_at", postgresql_where=text("status = 'released'")),
        # Those of the last minutes, and what was released in a month: the books tell them from what is sold.
        Index(
            "ix_reservations_unsold",
            "order_id",
            postgresql_include=["status"],
            postgresql_where=text("status <> 'sold'"),
        ),
    )

    order_id: Mapped[UUID] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=NOW)
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=NOW, onupdate=NOW)


class ReservedLine(db.Model):  # type: ignore[name-defined]
    """How many of a product an order took, under which name and price."""

    __tablename__ = "reserved_lines"
    __table_args__ = (
        CheckConstraint("quantity > 0", name="quantity_is_positive"),
        # A product's books are added up, and its reservations listed, from it alone.
        Index("ix_reserved_lines_books", "product_id", "order_id", postgresql_include=["quantity"]),
    )

    order_id: Mapped[UUID] = mapped_column(ForeignKey("reservations.order_id"), primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"), primary_key=True)
    quantity: Mapped[int] = mapped_column(BigInteger)
    sku: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    image_url: Mapped[str | None] = mapped_column(Text)
    unit_price: Mapped[Decimal] = mapped_column(PRICE_COLUMN)
