"""What the ledger and the reservations say of each product, for whoever compares it with the orders."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

# One statement, so that every number is of the same moment.
_BOOKS = text(
    """
    WITH page AS (
        SELECT id, stock FROM products WHERE id > :after ORDER BY id LIMIT :limit
    ), moved AS (
        SELECT product_id,
               sum(delta) FILTER (WHERE reason <> 'return') AS delivered,
               sum(delta) FILTER (WHERE reason = 'return') AS returned
        FROM stock_movements
        WHERE order_id IS NULL AND product_id IN (SELECT id FROM page)
        GROUP BY product_id
    ), kept AS (
        SELECT product_id,
               sum(quantity) FILTER (WHERE status = 'held') AS held,
               sum(quantity) FILTER (WHERE status = 'sold') AS sold
        FROM reserved_lines JOIN reservations USING (order_id)
        WHERE status <> 'released' AND product_id IN (SELECT id FROM page)
        GROUP BY product_id
    )
    SELECT id AS product_id, stock, coalesce(delivered, 0) AS delivered, coalesce(returned, 0) AS returned,
           coalesce(held, 0) AS held, coalesce(sold, 0) AS sold
    FROM page LEFT JOIN moved ON moved.product_id = id LEFT JOIN kept ON kept.product_id = id
    ORDER BY id
    """
)

_KEPT = text(
    """
    SELECT order_id, status, quantity FROM reserved_lines JOIN reservations USING (order_id)
    WHERE product_id = :product_id AND status <> 'released' AND order_id > :after
    ORDER BY order_id LIMIT :limit
    """
)


def read_books(session: Session, *, after: int, limit: int) -> Sequence[Row[Any]]:
    """Return the books of the products that follow an id, archived ones too."""
    return session.execute(_BOOKS, {"after": after, "limit": limit}).all()


def list_kept(session: Session, product_id: int, *, after: UUID, limit: int) -> Sequence[Row[Any]]:
    """Return what orders hold or have bought of a product, by order id."""
    return session.execute(_KEPT, {"product_id": product_id, "after": after, "limit": limit}).all()
