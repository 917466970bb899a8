"""How many pieces of each product the orders have, counted so many lines at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from chassis.db import transaction

LINES_AT_ONCE = 10_000
LAST_ID = "ffffffff-ffff-ffff-ffff-ffffffffffff"

_UNFINISHED = text(
    """
    WITH unfinished AS (
        SELECT requested FROM orders WHERE status = 'reserving'
        UNION ALL
        SELECT requested FROM orders JOIN releases ON order_id = id
    ), pieces AS (
        SELECT CAST(line ->> 'product_id' AS bigint) AS product_id,
               CAST(line ->> 'quantity' AS bigint) AS quantity
        FROM unfinished, jsonb_array_elements(requested) AS line
    )
    SELECT product_id, 0 AS held, 0 AS sold, sum(quantity) AS moving
    FROM pieces WHERE product_id > :after AND product_id <= :last
    GROUP BY product_id
    """
)

# Row by row through indexes, whatever else the planner thinks of: what it costs is what the lines cost.
_BY_INDEX = text("SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off")

_LINES = text(
    """
    WITH lines AS MATERIALIZED (
        SELECT product_id, order_id, quantity FROM order_items
        WHERE (product_id, order_id) > (:product_id, CAST(:order_id AS uuid)) AND product_id <= :last
        ORDER BY product_id, order_id LIMIT :limit
    )
    SELECT product_id, count(*) AS lines, max(CAST(order_id AS text) COLLATE "C") AS order_id,
           coalesce(sum(quantity) FILTER (WHERE status = 'pending'), 0) AS held,
           coalesce(sum(quantity) FILTER (WHERE status IN ('paid', 'shipped', 'completed')), 0) AS sold,
           coalesce(sum(quantity) FILTER (WHERE updated_at > :since), 0) AS moving
    FROM lines JOIN orders ON id = order_id
    GROUP BY product_id ORDER BY product_id
    """
)


@dataclass
class Pieces:
    """How many of a product are in the orders.

    Those `moving` are on their way from one column to another, or in and out of the books: those of intents
    and unfinished releases, and of orders that changed so recently that their event was not applied when
    the product service's books were read.
    """

    held: int = 0
    sold: int = 0
    moving: int = 0

    def add(self, row: Any) -> None:
        """Add what was counted."""
        self.held += int(row.held)
        self.sold += int(row.sold)
        self.moving += int(row.moving)


def count_pieces(session: Session, after: int, last: int, since: Any) -> Iterator[Sequence[Any]]:
    """Count what the orders have of the products of a page, so many lines at once."""
    with transaction(session) as here:
        # Before the lines, or an intent that becomes an order meanwhile would be in neither.
        unfinished = here.execute(_UNFINISHED, {"after": after, "last": last}).all()
    yield unfinished
    # No order has the greatest id.
    place: dict[str, Any] = {"product_id": after, "order_id": LAST_ID}
    while True:
        with transaction(session) as here:
            here.execute(_BY_INDEX)
            limits = {"last": last, "limit": LINES_AT_ONCE, "since": since}
            rows = here.execute(_LINES, place | limits).all()
        yield rows
        if sum(row.lines for row in rows) < LINES_AT_ONCE:
            return
        place = {"product_id": rows[-1].product_id, "order_id": rows[-1].order_id}
