"""Placing an order: intent, reservation, confirmation."""

import time
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from chassis.db import transaction
from chassis.errors import DependencyAway, DomainError, Invalid
from chassis.events import record
from chassis.idempotency import STALE, Once
from order_service.clients import ReservedItem
from order_service.errors import (
    CartAlreadyOrdered,
    CartEmpty,
    InsufficientStock,
    PriceChanged,
    ReservationReleased,
)
from order_service.events import order_created
from order_service.models import NOTHING, Order, OrderItem, now
from order_service.services.abandoning import abandon_order, release_now
from order_service.services.carts import Lines, take_cart, take_out_ordered
from order_service.services.desk import Desk, lock_intent, refuse

# Somewhat longer than the product service may take to answer who orders the same cart.
PATIENCE_SECONDS = 3.0

Held = dict[int, ReservedItem]


@dataclass(frozen=True)
class Draft:
    """What a buyer wants; without lines it is the cart."""

    user_id: int
    lines: Lines | None
    address: dict[str, Any] | None = None
    # Or else the id of one of the buyer's addresses, which the order keeps a copy of.
    address_id: int | None = None
    remark: str | None = None
    expected_total: Decimal | None = None


@dataclass(frozen=True)
class Intent:
    """A durable intent, and the lines that belong to it."""

    order_id: UUID
    lines: Lines


class CartBeingOrdered(Exception):
    """Somebody else is about to order the same cart."""

    def __init__(self, order_id: UUID, stale: bool) -> None:
        super().__init__("cart being ordered")
        self.order_id, self.stale = order_id, stale


def place_order(session: Session, desk: Desk, once: Once, draft: Draft) -> Order:
    """Place an order: transaction A, the reservation, transaction B.

    Whatever interrupts it leaves an intent that its key's next owner goes on with, or that is swept.
    """
    draft = _with_address(desk, draft)
    intent = _begin(session, desk, once, draft)
    try:
        held = desk.products.reserve(intent.order_id, intent.lines)
        _check_total(held, draft.expected_total)
    except PriceChanged as refusal:
        _give_up(session, once, intent.order_id, refusal)
        release_now(session, desk, intent.order_id)
        raise
    except InsufficientStock as refusal:
        _give_up(session, once, intent.order_id, refusal)
        raise
    except (DependencyAway, ReservationReleased) as error:
        _give_up(session, once, intent.order_id)
        raise DependencyAway("product service") from error
    return _confirm(session, desk, once, intent, held)


def _with_address(desk: Desk, draft: Draft) -> Draft:
    """Ask the user service for the address, if the buyer chose one."""
    if draft.address_id is None:
        return draft
    address = desk.users.get_address(draft.user_id, draft.address_id)
    if address is None:
        raise Invalid("address_id", "is none of your addresses")
    return replace(draft, address=address)


def _begin(session: Session, desk: Desk, once: Once, draft: Draft) -> Intent:
    """Write the intent; wait while somebody else may or may not order the same cart."""
    ends = time.monotonic() + PATIENCE_SECONDS
    other: UUID | None = None
    while True:
        try:
            with transaction(session) as here:
                return _write_intent(here, desk, once, draft, waited_for=other)
        except CartBeingOrdered as busy:
            other = busy.order_id
            if busy.stale:
                _abandon_other(session, busy.order_id)
            elif time.monotonic() > ends:
                raise DependencyAway("product service") from busy
        time.sleep(0.05)


def _write_intent(
    session: Session, desk: Desk, once: Once, draft: Draft, *, waited_for: UUID | None
) -> Intent:
    order_id = once.claim(session)
    if once.resumed and (begun := session.get(Order, order_id)):
        return Intent(order_id, begun.requested)
    version, lines = (None, draft.lines) if draft.lines else take_cart(session, draft.user_id)
    if waited_for is not None:
        _check_not_ordered(session, waited_for)
    if not lines:
        raise CartEmpty
    if version is not None:
        _check_cart_is_free(session, draft.user_id, version)
    values = {
        "id": order_id,
        "user_id": draft.user_id,
        "status": "reserving",
        "currency": desk.currency,
        "requested": lines,
        "cart_version": version,
        "address": draft.address,
        "remark": draft.remark,
    }
    unless_ordered = insert(Order).on_conflict_do_nothing(
        index_elements=["user_id", "cart_version"], index_where=text("status <> 'abandoned'")
    )
    if session.scalar(unless_ordered.values(values).returning(Order.id)) is None:
        # By somebody who did not lock the cart; the next try sees whom.
        raise CartBeingOrdered(UUID(int=0), stale=False)
    return Intent(order_id, lines)


def _check_cart_is_free(session: Session, user_id: int, version: int) -> None:
    """Raise when the cart was ordered, or is about to be: a change since leaves its other lines the same.

    The cart is locked, so nobody else begins to order it now.
    """
    attempts = select(Order.id, Order.status, Order.created_at).where(
        Order.user_id == user_id,
        (Order.cart_version.is_not(None) & (Order.status == "reserving"))
        | ((Order.cart_version == version) & (Order.status != "abandoned")),
    )
    for other in session.execute(attempts):
        if other.status == "reserving":
            raise CartBeingOrdered(other.id, stale=other.created_at < now() - STALE)
        raise CartAlreadyOrdered(order_id=str(other.id))


def _check_not_ordered(session: Session, other: UUID) -> None:
    """Raise when the one we waited for has ordered the cart; it is locked, so the answer stands."""
    status = session.scalar(select(Order.status).where(Order.id == other))
    if status not in (None, "reserving", "abandoned"):
        raise CartAlreadyOrdered(order_id=str(other))


def _abandon_other(session: Session, order_id: UUID) -> None:
    """Give up an intent that nobody goes on with: a crash must not hold the cart back."""
    with transaction(session) as here:
        order = lock_intent(here, order_id)
        if order is not None and order.status == "reserving":
            abandon_order(here, order)


def _check_total(held: Held, expected: Decimal | None) -> None:
    total = sum((item.unit_price * item.quantity for item in held.values()), NOTHING)
    if expected is not None and total != expected:
        raise PriceChanged(total_amount=f"{total:.2f}")


def _give_up(session: Session, once: Once, order_id: UUID, refusal: DomainError | None = None) -> None:
    """End the intent as abandoned, with the refusal that is its answer, if any."""
    with transaction(session) as here:
        order = lock_intent(here, order_id)
        if order is not None and order.status == "reserving":
            abandon_order(here, order)
        if refusal is None:
            once.drop(here)
        else:
            refuse(here, once, refusal)


def _confirm(session: Session, desk: Desk, once: Once, intent: Intent, held: Held) -> Order:
    """Transaction B: make the intent an order, unless it was given up or taken over meanwhile."""
    with transaction(session) as here:
        order = lock_intent(here, intent.order_id)
        if order is not None and order.status == "reserving":
            items = [_make_item(held[line["product_id"]], n) for n, line in enumerate(intent.lines, start=1)]
            order.confirm(items, expires_at=now() + desk.payment_timeout)
            record(here, order_created(order))
            if order.cart_version is not None:
                take_out_ordered(here, order.user_id, order.cart_version)
            once.reply(here, 201, order, f"/api/v1/orders/{order.id}")
            return order
        once.drop(here)
    raise DependencyAway("product service")


def _make_item(held: ReservedItem, position: int) -> OrderItem:
    return OrderItem(
        product_id=held.product_id,
        position=position,
        sku=held.sku,
        name=held.name,
        unit_price=held.unit_price,
        quantity=held.quantity,
    )
