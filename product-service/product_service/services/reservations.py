"""What orders take out of the stock and give back.

Every transaction here locks the order's reservation first and then its products by id, so that no two of
them wait for each other. The number of statements doesn't depend on the number of lines.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Row,
    Select,
    any_,
    case,
    cast,
    column,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from chassis.db import transaction
from chassis.events import record
from product_service import events
from product_service.errors import InsufficientStock, ReservationReleased
from product_service.models import Product, Reservation, ReservedLine, StockMovement

Wanted = dict[int, int]  # pieces by product id
STOCK_OF: tuple[Any, ...] = (Product.id, Product.sku, Product.stock, Product.low_stock_threshold)
OFFER_OF: tuple[Any, ...] = (Product.name, Product.price, Product.image_url)
AVAILABLE = case((Product.status == "active", Product.stock), else_=0).label("available")


@dataclass(frozen=True)
class Taken:
    """The stock that an order has, under the names and prices of the moment it took it."""

    order_id: UUID
    status: str
    items: Sequence[ReservedLine]
    is_new: bool = False


def reserve(session: Session, order_id: UUID, lines: Iterable[tuple[int, int]]) -> Taken:
    """Take an order's (product id, quantity) out of the stock, all or none; once more answers the same."""
    wanted: Counter[int] = Counter()
    for product_id, quantity in lines:
        wanted[product_id] += quantity
    with transaction(session):
        if not _begin(session, order_id, "held"):
            return _standing(session, order_id)
        available = _lock_products(session, wanted)
        taken = session.execute(_taking(wanted)).all()
        if len(taken) < len(wanted):
            raise _shortage(wanted, available, {row.id for row in taken})
        items = [_line(order_id, row, wanted) for row in sorted(taken, key=lambda row: row.id)]
        session.execute(insert(ReservedLine), items)
        deltas = {product_id: -quantity for product_id, quantity in wanted.items()}
        _book(session, taken, deltas, order_id, "order")
    return Taken(order_id, "held", [ReservedLine(**item) for item in items], is_new=True)


def release(session: Session, order_id: UUID) -> None:
    """Give an order's pieces back, once; an unknown order's id is closed to a late reservation."""
    with transaction(session):
        if _begin(session, order_id, "released"):
            return
        closing = update(Reservation).where(
            Reservation.order_id == order_id, Reservation.status != "released"
        )
        if session.scalar(closing.values(status="released").returning(Reservation.order_id)) is None:
            return
        rows = session.execute(_lines_locking_products(order_id)).all()
        lines = {row.product_id: row.quantity for row in rows}
        given = session.execute(_giving(lines)).all()
        _book(session, given, lines, order_id, "order_cancelled")


def mark_sold(session: Session, order_id: UUID) -> None:
    """Note that an order is paid; what was released before stays released."""
    with transaction(session):
        session.execute(
            update(Reservation)
            .where(Reservation.order_id == order_id, Reservation.status == "held")
            .values(status="sold")
        )


def look_up(session: Session, ids: Sequence[int]) -> Sequence[Any]:
    """Tell name, price and what is available of the products that are known, in one statement."""
    statement = select(*STOCK_OF, *OFFER_OF, Product.id.label("product_id"), Product.status, AVAILABLE)
    return session.execute(statement.where(Product.id == any_(_bigints(ids))).order_by(Product.id)).all()


def _begin(session: Session, order_id: UUID, status: str) -> bool:
    """Make the order's row, or tell that there is one; whoever makes it at this moment is waited for."""
    made = upsert(Reservation).values(order_id=order_id, status=status).on_conflict_do_nothing()
    return session.scalar(made.returning(Reservation.order_id)) is not None


def _standing(session: Session, order_id: UUID) -> Taken:
    reservation = session.get(Reservation, order_id, populate_existing=True)
    assert reservation is not None
    if reservation.status == "released":
        raise ReservationReleased
    lines = session.scalars(
        select(ReservedLine).where(ReservedLine.order_id == order_id).order_by(ReservedLine.product_id)
    )
    return Taken(order_id, reservation.status, lines.all())


def _lock_products(session: Session, wanted: Wanted) -> Wanted:
    """Lock the products in the order of their ids and return what is available of each."""
    locking = (
        select(Product.id, AVAILABLE)
        .where(Product.id == any_(_bigints(wanted)))
        .order_by(Product.id)
        .with_for_update()
    )
    return dict(session.execute(locking).tuples().all())


def _taking(wanted: Wanted) -> Any:
    """Take every product's pieces, each only where there are as many."""
    lines = _unnested(wanted)
    enough = (Product.status == "active") & (Product.stock >= lines.c.quantity)
    changed = {"stock": Product.stock - lines.c.quantity, "stock_version": Product.stock_version + 1}
    taking = update(Product).where(Product.id == lines.c.product_id, enough).values(changed)
    return taking.returning(*STOCK_OF, *OFFER_OF).execution_options(synchronize_session=False)


def _giving(lines: Wanted) -> Any:
    """Give every product's pieces back."""
    given = _unnested(lines)
    changed = {"stock": Product.stock + given.c.quantity, "stock_version": Product.stock_version + 1}
    giving = update(Product).where(Product.id == given.c.product_id).values(changed)
    return giving.returning(*STOCK_OF).execution_options(synchronize_session=False)


def _shortage(wanted: Wanted, available: Wanted, taken: set[int]) -> InsufficientStock:
    missing = sorted(wanted.keys() - taken)
    return InsufficientStock.of(*((one, wanted[one], available.get(one, 0)) for one in missing))


def _lines_locking_products(order_id: UUID) -> Select[int, int]:
    return (
        select(ReservedLine.product_id, ReservedLine.quantity)
        .join(Product, Product.id == ReservedLine.product_id)
        .where(ReservedLine.order_id == order_id)
        .order_by(Product.id)
        .with_for_update(of=Product)
    )


def _book(session: Session, changed: Sequence[Row[Any]], deltas: Wanted, order_id: UUID, reason: str) -> None:
    """Write the ledger's lines and the events of products whose stock an order has changed."""
    movements = [
        {"product_id": row.id, "delta": deltas[row.id], "reason": reason, "order_id": order_id}
        for row in changed
    ]
    session.execute(insert(StockMovement), movements)
    record(session, *(events.stock_updated(row, delta=deltas[row.id], reason=reason) for row in changed))


def _line(order_id: UUID, row: Row[Any], wanted: Wanted) -> dict[str, Any]:
    return {
        "order_id": order_id,
        "product_id": row.id,
        "quantity": wanted[row.id],
        "sku": row.sku,
        "name": row.name,
        "image_url": row.image_url,
        "unit_price": row.price,
    }


def _unnested(pieces: Wanted) -> Any:
    columns = (column("product_id", BigInteger), column("quantity", BigInteger))
    rows = func.unnest(_bigints(pieces), _bigints(pieces.values())).table_valued(*columns)
    return rows.render_derived(name="lines")


def _bigints(values: Iterable[int]) -> ColumnElement[Any]:
    return cast(list(values), ARRAY(BigInteger))
