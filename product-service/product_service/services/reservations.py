"""What orders take out of the stock and give back.

Every transaction here locks the order's reservation first and then its products by id, so that no two of
them wait for each other. The number of statements doesn't depend on the number of lines, and few of them
run while the products are locked: everybody who wants the same product waits for those.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, Row, any_, case, cast, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.orm import Session

from chassis.db import transaction
from chassis.events import record
from product_service import events
from product_service.errors import InsufficientStock, ReservationReleased
from product_service.models import Product, Reservation, ReservedLine

AVAILABLE = case((Product.status == "active", Product.stock), else_=0).label("available")

# Products are changed, lines and movements inserted in one statement. Only the condition in it says whether
# there is enough: whoever finds fewer rows than products must leave the transaction.
_TAKE = text(
    """
    WITH taken AS (
        UPDATE products
        SET stock = stock - quantity, stock_version = stock_version + 1, updated_at = now()
        FROM unnest(CAST(:ids AS bigint[]), CAST(:quantities AS bigint[])) AS wanted (product_id, quantity)
        WHERE id = product_id AND status = 'active' AND stock >= quantity
        RETURNING id, sku, name, image_url, price, stock, low_stock_threshold, quantity
    ), lines AS (
        INSERT INTO reserved_lines (order_id, product_id, quantity, sku, name, image_url, unit_price)
        SELECT CAST(:order_id AS uuid), id, quantity, sku, name, image_url, price FROM taken
    ), movements AS (
        INSERT INTO stock_movements (product_id, delta, reason, order_id)
        SELECT id, -quantity, 'order', CAST(:order_id AS uuid) FROM taken ORDER BY id
    )
    SELECT * FROM taken ORDER BY id
    """
)

_GIVE_BACK = text(
    """
    WITH given AS (
        UPDATE products
        SET stock = stock + quantity, stock_version = stock_version + 1, updated_at = now()
        FROM reserved_lines
        WHERE id = product_id AND order_id = CAST(:order_id AS uuid)
        RETURNING id, products.sku, stock, low_stock_threshold, quantity
    ), movements AS (
        INSERT INTO stock_movements (product_id, delta, reason, order_id)
        SELECT id, quantity, 'order_cancelled', CAST(:order_id AS uuid) FROM given ORDER BY id
    )
    SELECT * FROM given ORDER BY id
    """
)


@dataclass(frozen=True)
class Reserved:
    """The stock that an order has, under the names and prices of the moment it took it."""

    order_id: UUID
    status: str
    items: Sequence[ReservedLine]
    is_new: bool = False


def reserve(session: Session, order_id: UUID, lines: Iterable[tuple[int, int]]) -> Reserved:
    """Take an order's (product id, quantity) out of the stock, all or none; once more answers the same."""
    wanted: Counter[int] = Counter()
    for product_id, quantity in lines:
        wanted[product_id] += quantity
    with transaction(session):
        if not _begin(session, order_id, "held"):
            return _standing(session, order_id)
        available = _lock_products(session, list(wanted))
        pieces = {"ids": list(wanted), "quantities": list(wanted.values())}
        taken = session.execute(_TAKE, {"order_id": str(order_id), **pieces}).all()
        if len(taken) < len(wanted):
            raise _shortage(wanted, available, {row.id for row in taken})
        record(session, *(events.stock_updated(row, delta=-row.quantity, reason="order") for row in taken))
    return Reserved(order_id, "held", [_line(order_id, row) for row in taken], is_new=True)


def release(session: Session, order_id: UUID) -> None:
    """Give an order's pieces back, once; an unknown order's id is closed to a late reservation."""
    with transaction(session):
        if _begin(session, order_id, "released") or not _close(session, order_id):
            return
        _lock_products_of(session, order_id)
        given = session.execute(_GIVE_BACK, {"order_id": str(order_id)}).all()
        reason = "order_cancelled"
        record(session, *(events.stock_updated(row, delta=row.quantity, reason=reason) for row in given))


def mark_sold(session: Session, order_id: UUID) -> None:
    """Note that an order is paid; what was released before stays released."""
    with transaction(session):
        session.execute(
            update(Reservation)
            .where(Reservation.order_id == order_id, Reservation.status == "held")
            .values(status="sold")
        )


def look_up(session: Session, ids: Sequence[int]) -> Sequence[Row[Any]]:
    """Tell name, price and what is available of the products that are known, in one statement."""
    known = (Product.id, Product.sku, Product.name, Product.price, Product.image_url, Product.status)
    statement = select(*known, Product.id.label("product_id"), AVAILABLE).where(_is_one_of(ids))
    return session.execute(statement.order_by(Product.id)).all()


def _begin(session: Session, order_id: UUID, status: str) -> bool:
    """Make the order's row, or tell that there is one; whoever makes it at this moment is waited for."""
    made = insert(Reservation).values(order_id=order_id, status=status).on_conflict_do_nothing()
    return session.scalar(made.returning(Reservation.order_id)) is not None


def _close(session: Session, order_id: UUID) -> bool:
    """Release the order's row, or tell that it was released before."""
    closing = update(Reservation).where(Reservation.order_id == order_id, Reservation.status != "released")
    return session.scalar(closing.values(status="released").returning(Reservation.order_id)) is not None


def _standing(session: Session, order_id: UUID) -> Reserved:
    """Return what the order has already, or raise that it was given up."""
    reservation = session.get_one(Reservation, order_id, populate_existing=True)
    if reservation.status == "released":
        raise ReservationReleased
    lines = select(ReservedLine).where(ReservedLine.order_id == order_id).order_by(ReservedLine.product_id)
    return Reserved(order_id, reservation.status, session.scalars(lines).all())


def _lock_products(session: Session, ids: Sequence[int]) -> dict[int, int]:
    """Lock the products in the order of their ids and return what is available of each."""
    locking = select(Product.id, AVAILABLE).where(_is_one_of(ids)).order_by(Product.id).with_for_update()
    return dict(session.execute(locking).all())


def _lock_products_of(session: Session, order_id: UUID) -> None:
    reserved = select(ReservedLine.product_id).where(ReservedLine.order_id == order_id)
    locking = select(Product.id).where(Product.id.in_(reserved)).order_by(Product.id)
    session.execute(locking.with_for_update())


def _shortage(wanted: dict[int, int], available: dict[int, int], taken: set[int]) -> InsufficientStock:
    missing = sorted(wanted.keys() - taken)
    return InsufficientStock.of(*((one, wanted[one], available.get(one, 0)) for one in missing))


def _line(order_id: UUID, row: Row[Any]) -> ReservedLine:
    return ReservedLine(
        order_id=order_id,
        product_id=row.id,
        quantity=row.quantity,
        sku=row.sku,
        name=row.name,
        image_url=row.image_url,
        unit_price=row.price,
    )


def _is_one_of(ids: Sequence[int]) -> ColumnElement[bool]:
    return Product.id == any_(cast(list(ids), ARRAY(BigInteger)))
