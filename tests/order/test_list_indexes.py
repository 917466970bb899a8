"""A list costs what it shows, however many intents came to nothing in between."""

from typing import Any

import pytest
from sqlalchemy import event

from order_service.services.queries import list_orders
from tests.order.shop import Shop

MAKE = (
    "INSERT INTO orders (id, user_id, status, total_amount, currency, requested, created_at, updated_at)"
    " SELECT gen_random_uuid(), n % 50, :status, 20, 'CNY', '[]', now() - n * interval '1 s', now()"
    " FROM generate_series(CAST(:first AS int), :last) n"
)


@pytest.fixture
def gap(own_shop: Shop) -> Shop:
    """A shop whose older orders lie behind 20,000 intents that came to nothing."""
    for status, first, last in (("pending", 1, 10), ("abandoned", 11, 20_010), ("cancelled", 20_011, 25_000)):
        own_shop.rows(MAKE, status=status, first=first, last=last)
    own_shop.rows("ANALYZE orders")
    return own_shop


def plan_of_list(shop: Shop, **filters: Any) -> str:
    """Return how PostgreSQL runs the statement of a page that crosses the gap."""
    sent: list[tuple[str, Any]] = []
    with shop.session() as session:
        engine = session.get_bind()

        def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
            sent.append((statement, values))

        event.listen(engine, "before_cursor_execute", note)
        try:
            assert len(list_orders(session, **filters, limit=20).items) == 20
        finally:
            event.remove(engine, "before_cursor_execute", note)
        [listing] = [one for one in sent if "LIMIT" in one[0]]
        explain = "EXPLAIN (ANALYZE, BUFFERS) " + listing[0]
        return "\n".join(session.connection().exec_driver_sql(explain, listing[1]).scalars())


@pytest.mark.parametrize(
    ("filters", "index"), [({}, "ix_orders_created_at"), ({"user_id": 7}, "ix_orders_user_id_created_at")]
)
def test_a_page_walks_over_no_intent_that_came_to_nothing(gap: Shop, filters: dict[str, Any], index: str):
    plan = plan_of_list(gap, **filters)
    assert f"using {index} on orders" in plan
    assert "Rows Removed by Filter" not in plan
