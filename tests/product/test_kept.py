"""What the order service asks of reservations when it reconciles, and a sale whose event was lost."""

from tests.product.shop import Shop, new_id


def kept(shop: Shop, product_id: int, **query: object) -> list[tuple[str, str, int]]:
    """Return order, status and pieces of what is kept of a product."""
    asked = "&".join(f"{name}={value}" for name, value in query.items())
    answer = shop.peer("GET", f"/products/{product_id}/reservations?{asked}", scope="books.read")
    assert answer.status_code == 200, answer.text
    return [(one["order_id"], one["status"], one["quantity"]) for one in answer.get_json()["items"]]


def sell(shop: Shop, order_id: str) -> int:
    return shop.peer("POST", f"/reservations/{order_id}/sale", scope="reservations.write").status_code


def test_what_is_kept_of_a_product_is_told_in_pages(shop: Shop):
    tea, cup = shop.add(stock=50)["id"], shop.add(stock=50)["id"]
    orders = sorted(new_id() for _ in range(5))
    for place, order_id in enumerate(orders, start=1):
        shop.reserve({tea: place, cup: 1}, order_id)
    shop.release(orders[1])
    sell(shop, orders[2])
    expected = [
        (orders[0], "held", 1),
        (orders[2], "sold", 3),
        (orders[3], "held", 4),
        (orders[4], "held", 5),
    ]
    assert kept(shop, tea) == expected
    assert kept(shop, tea, limit=2) == expected[:2]
    assert kept(shop, tea, limit=2, after=orders[2]) == expected[2:]
    assert kept(shop, 999) == []


def test_a_sale_is_counted_once_and_never_after_a_release(shop: Shop):
    tea, order_id, released = shop.add(stock=9)["id"], new_id(), new_id()
    for one in (order_id, released):
        shop.reserve({tea: 2}, one)
    shop.release(released)
    assert [sell(shop, one) for one in (order_id, order_id, released, new_id())] == [204] * 4
    assert kept(shop, tea) == [(order_id, "sold", 2)]
    assert shop.product(tea)["stock"] == 7


def test_both_need_their_scope(shop: Shop):
    path = f"/reservations/{new_id()}/sale"
    assert shop.peer("POST", path, scope="books.read").status_code == 401
    assert shop.peer("GET", "/products/1/reservations", scope="reservations.write").status_code == 401
