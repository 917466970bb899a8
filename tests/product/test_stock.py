"""The stock's ledger."""

import pytest

from tests.contracts.event_schemas import problems
from tests.product.shop import at_once, settled

MOST = 2**31 - 1


def adjust(shop, product, delta, reason="delivery"):
    return shop.manage("POST", f"/products/{product['id']}/stock", {"delta": delta, "reason": reason})


def test_deliveries_and_losses_are_booked(shop):
    product = shop.add(stock=10)
    assert adjust(shop, product, 5).get_json()["stock"] == 15
    assert adjust(shop, product, -15, "damaged").get_json()["stock"] == 0
    movements = shop.manage("GET", f"/products/{product['id']}/stock/movements").get_json()["items"]
    assert [(m["delta"], m["reason"], m["order_id"]) for m in movements] == [
        (-15, "damaged", None),
        (5, "delivery", None),
        (10, "initial", None),
    ]
    shop.assert_ledger_adds_up()


def test_changing_the_stock_leaves_the_version(shop):
    product = shop.add()
    assert adjust(shop, product, 5).get_json()["version"] == product["version"]


def test_a_product_without_stock_has_no_movement(shop):
    product = shop.add(stock=0)
    page = shop.manage("GET", f"/products/{product['id']}/stock/movements").get_json()
    assert page == {"items": [], "next_cursor": None}
    assert [event["type"] for event in shop.events()] == ["product.created"]


def test_the_stock_never_falls_below_zero(shop):
    product = shop.add(stock=3)
    answer = adjust(shop, product, -4)
    problem = answer.get_json()
    assert (answer.status_code, problem["code"]) == (409, "insufficient_stock")
    assert problem["items"] == [{"product_id": product["id"], "requested": 4, "available": 3}]
    assert shop.product(product["id"])["stock"] == 3
    shop.assert_ledger_adds_up()


def test_the_stock_does_not_overflow(shop):
    product = shop.add(stock=MOST)
    answer = adjust(shop, product, 1)
    assert answer.status_code == 422
    assert answer.get_json()["errors"][0]["field"] == "delta"
    assert adjust(shop, product, -MOST).get_json()["stock"] == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"delta": 0, "reason": "x"}, "delta"),
        ({"delta": 2**31, "reason": "x"}, "delta"),
        ({"delta": 10**400, "reason": "x"}, "delta"),
        ({"delta": "1", "reason": "x"}, "delta"),
        ({"delta": 1.0, "reason": "x"}, "delta"),
        ({"delta": 1}, "reason"),
        ({"delta": 1, "reason": " "}, "reason"),
        ({"reason": "x"}, "delta"),
    ],
)
def test_a_bad_change_of_stock_is_refused_by_name(shop, body, field):
    product = shop.add(stock=3)
    answer = shop.manage("POST", f"/products/{product['id']}/stock", body)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.get_json()["errors"]] == [field]
    assert shop.product(product["id"])["stock"] == 3


def test_every_change_of_stock_is_told(shop):
    product = shop.add(stock=6, sku="TEA", low_stock_threshold=5)
    adjust(shop, product, -2, "damaged")
    last = shop.events("product.stock.updated")[-1]
    assert last["data"] == {
        "product_id": product["id"],
        "sku": "TEA",
        "stock": 4,
        "previous_stock": 6,
        "delta": -2,
        "reason": "damaged",
        "low_stock_threshold": 5,
    }
    assert problems({**last, "time": last["time"].isoformat().replace("+00:00", "Z")}) == []


def test_changes_at_once_are_all_booked(shop):
    product = shop.add(stock=10)
    codes = at_once(lambda n: settled(lambda: adjust(shop, product, 3 if n % 2 else -2)), 40)
    assert set(codes) <= {200, 409}
    shop.assert_ledger_adds_up()
    taken, given = codes[0::2].count(200), codes[1::2].count(200)
    assert shop.product(product["id"])["stock"] == 10 + 3 * given - 2 * taken


def test_the_ledger_is_paged(shop):
    product = shop.add(stock=1)
    for number in range(6):
        adjust(shop, product, 1, f"delivery {number}")
    path, seen, cursor = f"/products/{product['id']}/stock/movements?limit=3", [], ""
    while cursor is not None:
        page = shop.manage("GET", path + (f"&cursor={cursor}" if cursor else "")).get_json()
        seen += [m["reason"] for m in page["items"]]
        cursor = page["next_cursor"]
    assert seen == [f"delivery {number}" for number in (5, 4, 3, 2, 1, 0)] + ["initial"]


def test_the_database_itself_refuses_a_negative_stock(shop):
    product = shop.add(stock=3)
    with pytest.raises(Exception, match="ck_products_stock_is_not_negative"):
        shop.sql("UPDATE products SET stock = -1 WHERE id = :id", id=product["id"])
