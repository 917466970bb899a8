"""What the ledger and the reservations say of each product, for whoever compares it with the orders."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

CHANGES_AT_ONCE = 300_000

# One statement, so that every number is of the same moment. What it reads grows with a product's lines, each
# of which changed its stock: so a page ends early once its products' stock has changed that often. Nearly all
# that was ever reserved is sold, and what is not has an index of its own: asked for each line, in
# about 1 µs, or read whole once, whichever the planner thinks is cheaper.
_BOOKS = text(
    """
    WITH following AS (
        SELECT id, stock, stock_version FROM products WHERE id > :after ORDER BY id LIMIT :limit
    ), counted AS (
        SELECT id, stock, sum(stock_version) OVER (ORDER BY id) - stock_version AS changes_before
        FROM following
    ), page AS (
        SELECT id, stock FROM counted WHERE changes_before < :changes
    ), moved AS (
        SELECT product_id,
               sum(delta) FILTER (WHERE reason <> 'return') AS delivered,
               sum(delta) FILTER (WHERE reason = 'return') AS returned
        FROM stock_movements
        WHERE order_id IS NULL AND product_id IN (SELECT id FROM page)
        GROUP BY product_id
    ), reserved AS (
        SELECT product_id,
               sum(quantity) FILTER (WHERE status = 'held') AS held,
               sum(quantity) FILTER (WHERE status IS NULL) AS sold
        FROM reserved_lines LEFT JOIN (
            SELECT order_id, status FROM reservations WHERE status <> 'sold'
        ) AS unsold USING (order_id)
        WHERE product_id IN (SELECT id FROM page)
        GROUP BY product_id
    )
    SELECT id AS product_id, stock, coalesce(delivered, 0) AS delivered, coalesce(returned, 0) AS returned,
           coalesce(held, 0) AS held, coalesce(sold, 0) AS sold
    FROM page
        LEFT JOIN moved ON moved.product_id = id
        LEFT JOIN reserved ON reserved.product_id = id
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
    """Return the books of products that follow an id, archived ones too: at least one, unless none does."""
    return session.execute(_BOOKS, {"after": after, "limit": limit, "changes": CHANGES_AT_ONCE}).all()


def list_kept(session: Session, product_id: int, *, after: UUID, limit: int) -> Sequence[Row[Any]]:
    """Return what orders hold or have bought of a product, by order id."""
    return session.execute(_KEPT, {"product_id": product_id, "after": after, "limit": limit}).all()
