"""Carts."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from chassis.db import transaction
from chassis.errors import NotFound
from order_service.clients import Product
from order_service.errors import CartFull
from order_service.models import NOTHING, Cart, CartItem, now
from order_service.services.desk import Desk

MOST_PRODUCTS = 100

Lines = list[dict[str, int]]


def show_cart(session: Session, desk: Desk, user_id: int) -> dict[str, Any]:
    """Return the cart at today's prices."""
    with transaction(session) as here:
        lines = _read_lines(here, user_id)
    return _priced(desk, lines, desk.products.lookup(list(lines)) if lines else {})


def put_cart_item(
    session: Session, desk: Desk, user_id: int, *, product_id: int, quantity: int
) -> dict[str, Any]:
    """Make the cart hold so many of a product; return the cart."""
    with transaction(session) as here:
        lines = _read_lines(here, user_id)
    others = lines.keys() - {product_id}
    if len(others) >= MOST_PRODUCTS:
        raise CartFull
    products = desk.products.lookup([*others, product_id])
    if product_id not in products or not products[product_id].is_active:
        raise NotFound
    with transaction(session) as here:
        version = _next_version(here, user_id)
        _check_room(here, user_id, product_id)
        change = {"quantity": quantity, "version": version}
        line = insert(CartItem).values(user_id=user_id, product_id=product_id, added_at=now(), **change)
        here.execute(line.on_conflict_do_update(index_elements=["user_id", "product_id"], set_=change))
    return _priced(desk, {**lines, product_id: quantity}, products)


def remove_cart_item(session: Session, user_id: int, product_id: int) -> None:
    """Take a product out of the cart."""
    with transaction(session) as here:
        _next_version(here, user_id)
        mine = (CartItem.user_id == user_id) & (CartItem.product_id == product_id)
        if here.scalar(delete(CartItem).where(mine).returning(CartItem.product_id)) is None:
            raise NotFound


def clear_cart(session: Session, user_id: int) -> None:
    """Take everything out of the cart."""
    with transaction(session) as here:
        _next_version(here, user_id)
        here.execute(delete(CartItem).where(CartItem.user_id == user_id))


def read_cart(session: Session, user_id: int) -> tuple[int | None, Lines]:
    """Return the cart's version and its lines, read at one instant."""
    statement = (
        select(Cart.version, CartItem.product_id, CartItem.quantity)
        .join(CartItem, CartItem.user_id == Cart.user_id)
        .where(Cart.user_id == user_id)
        .order_by(CartItem.added_at, CartItem.product_id)
    )
    rows = session.execute(statement).all()
    lines = [{"product_id": row.product_id, "quantity": row.quantity} for row in rows]
    return (rows[0].version if rows else None), lines


def take_cart(session: Session, user_id: int) -> tuple[int | None, Lines]:
    """Lock the cart to order it; return its version and its lines."""
    # In a statement of its own: the lines must be those of the version that the lock waited for.
    session.execute(select(Cart.version).where(Cart.user_id == user_id).with_for_update())
    return read_cart(session, user_id)


def take_out_ordered(session: Session, user_id: int, version: int) -> None:
    """Take exactly the lines out that were in the cart's ordered version; later changes stay."""
    _next_version(session, user_id)
    session.execute(delete(CartItem).where(CartItem.user_id == user_id, CartItem.version <= version))


def _next_version(session: Session, user_id: int) -> int:
    """Give the cart a new version; its row stays locked until the change commits."""
    first = insert(Cart).values(user_id=user_id, version=1)
    further = first.on_conflict_do_update(index_elements=["user_id"], set_={"version": Cart.version + 1})
    return session.scalars(further.returning(Cart.version)).one()


def _check_room(session: Session, user_id: int, product_id: int) -> None:
    others = (CartItem.user_id == user_id) & (CartItem.product_id != product_id)
    if (session.scalar(select(func.count()).where(others)) or 0) >= MOST_PRODUCTS:
        raise CartFull


def _read_lines(session: Session, user_id: int) -> dict[int, int]:
    return {line["product_id"]: line["quantity"] for line in read_cart(session, user_id)[1]}


def _priced(desk: Desk, lines: Mapping[int, int], products: Mapping[int, Product]) -> dict[str, Any]:
    items: Sequence[dict[str, Any]] = [
        {
            "product_id": product_id,
            "name": product.name,
            "image_url": product.image_url,
            "unit_price": product.price,
            "quantity": quantity,
            "subtotal": product.price * quantity,
            "available": product.available if product.is_active else 0,
        }
        for product_id, quantity in lines.items()
        if (product := products.get(product_id))
    ]
    total: Decimal = sum((item["subtotal"] for item in items), NOTHING)
    return {"items": items, "total_amount": total, "currency": desk.currency}
