"""What was released long ago is forgotten; stock and ledger stay as they are."""

import pytest

from product_service.models import db
from product_service.services import purging
from tests.product.shop import Shop, new_id


@pytest.fixture
def purge(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    """Return what runs the worker's job to its end, in small batches."""
    monkeypatch.setattr(purging, "PURGED_AT_ONCE", 2)
    [job] = [job for job in shop.app.extensions["worker"].jobs if job.name == "purge reservations"]

    def run() -> int:
        batches = 1
        with shop.app.app_context():
            while job.run(db.session):
                batches += 1
        return batches

    return run


def grow_old(shop: Shop, days: int) -> None:
    shop.sql("UPDATE reservations SET updated_at = updated_at - :d * interval '1 day'", d=days)


def reservations(shop: Shop) -> dict[str, str]:
    rows = shop.sql("SELECT order_id, status FROM reservations ORDER BY created_at")
    return {str(row.order_id): row.status for row in rows}


def test_released_reservations_and_tombstones_are_forgotten_after_30_days(shop: Shop, purge):
    tea = shop.add(stock=10)["id"]
    given_back, tombstones, held, sold = new_id(), [new_id() for _ in range(3)], new_id(), new_id()
    for order_id in (given_back, held, sold):
        assert shop.reserve({tea: 2}, order_id).status_code == 201
    for order_id in (given_back, *tombstones):
        assert shop.release(order_id).status_code == 204
    shop.sql("UPDATE reservations SET status = 'sold' WHERE order_id = :o", o=sold)
    grow_old(shop, 29)
    purge()
    assert len(reservations(shop)) == 6
    grow_old(shop, 2)
    young = new_id()
    shop.release(young)
    assert purge() == 3
    assert reservations(shop) == {held: "held", sold: "sold", young: "released"}
    assert shop.product(tea)["stock"] == 6
    shop.assert_ledger_adds_up()


def test_an_event_that_comes_after_that_changes_no_stock(shop: Shop, purge):
    tea, order_id = shop.add(stock=10)["id"], new_id()
    shop.reserve({tea: 2}, order_id)
    shop.release(order_id)
    grow_old(shop, 31)
    purge()
    assert shop.release(order_id).status_code == 204
    assert shop.product(tea)["stock"] == 10
    shop.assert_ledger_adds_up()
