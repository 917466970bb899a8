"""Taking stock out for orders and giving it back."""

import pytest

from chassis.tokens import sign_service_token
from tests.product.shop import ORDER_KEY, new_id


def test_pieces_are_taken_under_todays_name_and_price(shop):
    tea = shop.add("Tea", "12.50", sku="TEA", stock=10)
    cup = shop.add("Cup", "3.00", sku="CUP", stock=4)
    order = new_id()
    answer = shop.reserve({cup["id"]: 4, tea["id"]: 2}, order)
    assert answer.status_code == 201
    assert answer.get_json() == {
        "order_id": order,
        "status": "held",
        "items": [
            _line(tea, "TEA", "Tea", "12.50", 2),
            _line(cup, "CUP", "Cup", "3.00", 4),
        ],
    }
    assert [shop.product(one["id"])["stock"] for one in (tea, cup)] == [8, 0]
    assert shop.sql(
        "SELECT delta, reason FROM stock_movements WHERE order_id = :id ORDER BY id", id=order
    ) == [
        (-2, "order"),
        (-4, "order"),
    ]
    shop.assert_ledger_adds_up()


def _line(product, sku, name, price, quantity):
    return {
        "product_id": product["id"],
        "sku": sku,
        "name": name,
        "image_url": None,
        "unit_price": price,
        "quantity": quantity,
    }


def test_the_same_order_again_gets_the_same_answer_and_takes_nothing(shop):
    product = shop.add("Tea", "12.50", stock=10)
    order = new_id()
    first = shop.reserve({product["id"]: 2}, order)
    shop.manage("PUT", f"/products/{product['id']}", {"name": "Other", "price": "99.00"})
    shop.manage("DELETE", f"/products/{product['id']}")
    again = shop.reserve({product["id"]: 2}, order)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.get_json() == first.get_json()
    assert shop.product(product["id"])["stock"] == 8


def test_lines_of_one_product_are_merged(shop):
    product = shop.add(stock=5)
    answer = shop.reserve([(product["id"], 2), (product["id"], 3)])
    assert [line["quantity"] for line in answer.get_json()["items"]] == [5]
    assert shop.product(product["id"])["stock"] == 0


def test_merged_lines_are_too_many_together(shop):
    product = shop.add(stock=5)
    answer = shop.reserve([(product["id"], 3), (product["id"], 3)])
    assert answer.get_json()["items"] == [{"product_id": product["id"], "requested": 6, "available": 5}]


def test_nothing_is_taken_when_one_product_is_short(shop):
    plenty, short, gone = shop.add(stock=9), shop.add(stock=1), shop.add(stock=9)
    shop.manage("DELETE", f"/products/{gone['id']}")
    answer = shop.reserve({plenty["id"]: 2, short["id"]: 2, gone["id"]: 1, 4711: 1})
    problem = answer.get_json()
    assert (answer.status_code, problem["code"]) == (409, "insufficient_stock")
    assert problem["items"] == [
        {"product_id": short["id"], "requested": 2, "available": 1},
        {"product_id": gone["id"], "requested": 1, "available": 0},
        {"product_id": 4711, "requested": 1, "available": 0},
    ]
    assert [shop.product(one["id"])["stock"] for one in (plenty, short, gone)] == [9, 1, 9]
    assert shop.sql("SELECT order_id FROM reservations") == []
    shop.assert_ledger_adds_up()


def test_an_order_that_was_refused_may_try_again(shop):
    product, order = shop.add(stock=1), new_id()
    assert shop.reserve({product["id"]: 2}, order).status_code == 409
    shop.manage("POST", f"/products/{product['id']}/stock", {"delta": 1, "reason": "delivery"})
    assert shop.reserve({product["id"]: 2}, order).status_code == 201


def test_what_is_released_can_be_sold_again(shop):
    product, order = shop.add(stock=5), new_id()
    shop.reserve({product["id"]: 3}, order)
    assert [shop.release(order).status_code for _ in range(3)] == [204, 204, 204]
    assert shop.product(product["id"])["stock"] == 5
    assert shop.sql(
        "SELECT delta, reason FROM stock_movements WHERE order_id = :id ORDER BY id", id=order
    ) == [
        (-3, "order"),
        (3, "order_cancelled"),
    ]
    shop.assert_ledger_adds_up()


def test_an_archived_product_gets_its_stock_back(shop):
    product, order = shop.add(stock=5), new_id()
    shop.reserve({product["id"]: 3}, order)
    shop.manage("DELETE", f"/products/{product['id']}")
    shop.release(order)
    assert shop.product(product["id"])["stock"] == 5


def test_giving_back_never_overflows(shop):
    product, order = shop.add(stock=2**31 - 1), new_id()
    shop.reserve({product["id"]: 5}, order)
    shop.manage("POST", f"/products/{product['id']}/stock", {"delta": 5, "reason": "delivery"})
    assert shop.release(order).status_code == 204
    assert shop.product(product["id"])["stock"] == 2**31 + 4


def test_an_order_given_up_before_its_reservation_takes_nothing(shop):
    product, order = shop.add(stock=5), new_id()
    assert shop.release(order).status_code == 204
    answer = shop.reserve({product["id"]: 3}, order)
    assert (answer.status_code, answer.get_json()["code"]) == (409, "reservation_released")
    assert shop.product(product["id"])["stock"] == 5


def test_a_released_order_can_not_reserve_again(shop):
    product, order = shop.add(stock=5), new_id()
    shop.reserve({product["id"]: 3}, order)
    shop.release(order)
    assert shop.reserve({product["id"]: 3}, order).get_json()["code"] == "reservation_released"
    assert shop.product(product["id"])["stock"] == 5


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"order_id": "x", "items": [{"product_id": 1, "quantity": 1}]},
        {"order_id": new_id(), "items": []},
        {"order_id": new_id(), "items": [{"product_id": 1, "quantity": 0}]},
        {"order_id": new_id(), "items": [{"product_id": 1, "quantity": 2**31}]},
        {"order_id": new_id(), "items": [{"product_id": "1", "quantity": 1}]},
        {"order_id": new_id(), "items": [{"product_id": 1, "quantity": 1}] * 101},
    ],
)
def test_a_malformed_reservation_is_refused(shop, body):
    assert shop.peer("POST", "/reservations", body, scope="reservations.write").status_code == 422


def test_an_order_takes_as_many_statements_however_many_lines_it_has(shop):
    products = [shop.add(f"p{number}", stock=100)["id"] for number in range(100)]
    counts = {}
    for size in (1, 2, 100):
        order = new_id()
        with shop.counted() as reserving:
            assert shop.reserve(dict.fromkeys(products[:size], 1), order).status_code == 201
        with shop.counted() as releasing:
            assert shop.release(order).status_code == 204
        counts[size] = (len(reserving), len(releasing))
    assert counts[1] == counts[2] == counts[100] == (4, 5)
    shop.assert_ledger_adds_up()


def test_products_are_looked_up_in_one_statement(shop):
    one, other = shop.add("Tea", "12.50", stock=3, sku="TEA"), shop.add(stock=9)
    shop.manage("DELETE", f"/products/{other['id']}")
    with shop.counted() as seen:
        ids = [other["id"], 4711, one["id"], one["id"]]
        answer = shop.peer("POST", "/products/lookup", {"ids": ids}, scope="products.read")
    assert len(seen) == 1
    items = answer.get_json()["items"]
    assert items[0] == {
        "id": one["id"],
        "product_id": one["id"],
        "sku": "TEA",
        "name": "Tea",
        "price": "12.50",
        "image_url": None,
        "available": 3,
        "status": "active",
    }
    assert [(item["id"], item["available"], item["status"]) for item in items[1:]] == [
        (other["id"], 0, "archived")
    ]


def test_a_lookup_has_at_most_a_hundred_ids(shop):
    def ask(count):
        body = {"ids": list(range(1, count + 1))}
        return shop.peer("POST", "/products/lookup", body, scope="products.read").status_code

    assert [ask(count) for count in (0, 100, 101)] == [200, 200, 422]


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/reservations", "products.read"),
        ("DELETE", "/reservations/0d3d38e7-4866-4d61-9145-46738f791548", "products.read"),
        ("POST", "/products/lookup", "reservations.write"),
        ("GET", "/books", "products.read"),
    ],
)
def test_the_internal_routes_want_the_peers_token_with_their_scope(shop, bearer, method, path, scope):
    assert shop.call(method, "/internal/v1" + path).status_code == 401
    assert shop.call(method, "/internal/v1" + path, **bearer("admin")).status_code == 401
    assert shop.peer(method, path, scope=scope).status_code == 401


def test_a_peers_token_opens_no_public_route(shop):
    token = sign_service_token(ORDER_KEY, issuer="order-service", audience="product-service", scope="x")
    answer = shop.call("POST", "/api/v1/products", {}, Authorization=f"Bearer {token}")
    assert answer.status_code == 401
