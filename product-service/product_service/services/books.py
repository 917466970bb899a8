"""What the ledger and the reservations say of each product, for whoever compares it with the orders."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

PIECES_AT_ONCE = 1_000_000

# One statement, so that every number is of the same moment. What it reads grows with a product's lines, of
# which there are no more than pieces: so a page ends early once its products have sold that many. Nearly all
# that was ever reserved is sold, and adding up all from the index is cheaper than asking of each what it is.
_BOOKS = text(
    """
    WITH following AS (
        SELECT id, stock, sales FROM products WHERE id > :after ORDER BY id LIMIT :limit
    ), counted AS (
        SELECT id, stock, sum(sales) OVER (ORDER BY id) - sales AS sold_before FROM following
    ), page AS (
        SELECT id, stock FROM counted WHERE sold_before < :pieces
    ), moved AS (
        SELECT product_id,
               sum(delta) FILTER (WHERE reason <> 'return') AS delivered,
               sum(delta) FILTER (WHERE reason = 'return') AS returned
        FROM stock_movements
        WHERE order_id IS NULL AND product_id IN (SELECT id FROM page)
        GROUP BY product_id
    ), unsold AS MATERIALIZED (
        SELECT product_id, quantity, status
        FROM (
            SELECT order_id, status FROM reservations WHERE status = 'held'
            UNION ALL
            SELECT order_id, status FROM reservations WHERE status = 'released'
        ) AS open_or_closed JOIN reserved_lines USING (order_id)
    ), apart AS (
        SELECT product_id, sum(quantity) FILTER (WHERE status = 'held') AS held, sum(quantity) AS unsold
        FROM unsold
        GROUP BY product_id
    )
    SELECT id AS product_id, stock, coalesce(delivered, 0) AS delivered, coalesce(returned, 0) AS returned,
           coalesce(held, 0) AS held, coalesce(reserved - coalesce(unsold, 0), 0) AS sold
    FROM page
        LEFT JOIN moved ON moved.product_id = id
        LEFT JOIN apart ON apart.product_id = id
        CROSS JOIN LATERAL (
            SELECT sum(quantity) AS reserved FROM reserved_lines WHERE reserved_lines.product_id = id
        ) AS lines
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
    return session.execute(_BOOKS, {"after": after, "limit": limit, "pieces": PIECES_AT_ONCE}).all()


def list_kept(session: Session, product_id: int, *, after: UUID, limit: int) -> Sequence[Row[Any]]:
    """Return what orders hold or have bought of a product, by order id."""
    return session.execute(_KEPT, {"product_id": product_id, "after": after, "limit": limit}).all()
