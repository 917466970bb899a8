"""Placing an order."""

import threading
import time
import uuid

import pytest

from tests.order.product_books import Drop
from tests.order.shop import ADDRESS, Person, Shop, at_once, refusal, wrong_fields


def test_an_order_is_as_the_contract_says(shop: Shop, buyer: Person, tea: int):
    answer = buyer.order((tea, 2), address=ADDRESS, remark="请快点")
    order = answer.json
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/api/v1/orders/{order['id']}"
    assert uuid.UUID(order["id"]).version == 7
    line = {"product_id": tea, "sku": f"SKU-{tea}", "name": "龙井茶 Longjing", "unit_price": "10.00"}
    assert order == {
        "id": order["id"],
        "user_id": buyer.user_id,
        "status": "pending",
        "total_amount": "20.00",
        "currency": "CNY",
        "items": [{**line, "quantity": 2, "subtotal": "20.00"}],
        "address": ADDRESS,
        "remark": "请快点",
        "created_at": order["created_at"],
        "updated_at": order["updated_at"],
        "expires_at": order["expires_at"],
        "payment_time": None,
        "payment": None,
        "shipment": None,
    }
    assert order["created_at"].endswith("Z")
    assert buyer.see(order["id"]) == order
    assert shop.products.holds(order["id"]) == {tea: 2}


def test_it_waits_for_its_payment_for_the_time_of_the_setting(shop: Shop, buyer: Person, tea: int):
    order = buyer.ordered((tea, 1))
    [row] = shop.rows("SELECT expires_at - created_at AS wait FROM orders WHERE id = :o", o=order["id"])
    assert 1800 <= row.wait.total_seconds() < 1805


def test_order_created_tells_the_others(shop: Shop, buyer: Person, tea: int):
    order = buyer.ordered((tea, 2))
    [event] = shop.events(order["id"])
    assert event["type"] == "order.created"
    assert event["data"]["items"] == order["items"]
    assert event["data"]["total_amount"] == "20.00"
    assert event["data"]["expires_at"] == order["expires_at"]


def test_the_request_id_travels_to_the_product_service_and_into_the_event(
    shop: Shop, buyer: Person, tea: int
):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    body = {"items": [{"product_id": tea, "quantity": 1}]}
    answer = buyer.send("POST", "/orders", body, headers={"X-Request-ID": "r-1", "traceparent": trace})
    assert answer.headers["X-Request-ID"] == "r-1"
    sent = shop.products.headers[-1]
    assert sent["X-Request-ID"] == "r-1"
    assert sent["traceparent"].split("-")[1] == trace.split("-")[1]
    assert shop.events(answer.json["id"])[0]["requestid"] == "r-1"


def test_lines_of_one_product_are_merged_in_the_order_of_their_first(shop: Shop, buyer: Person, tea: int):
    cup = shop.products.add(price="3.50")
    order = buyer.ordered((tea, 1), (cup, 2), (tea, 4))
    assert [(item["product_id"], item["quantity"]) for item in order["items"]] == [(tea, 5), (cup, 2)]
    assert order["total_amount"] == "57.00"


def test_the_price_of_the_moment_stays(shop: Shop, buyer: Person, tea: int):
    order = buyer.ordered((tea, 1))
    shop.products.products[tea].price = "99.00"
    assert buyer.see(order["id"])["items"][0]["unit_price"] == "10.00"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"items": []}, "items"),
        ({"items": [{"product_id": 1, "quantity": 1}] * 101}, "items"),
        ({"items": [{"product_id": 1, "quantity": 1}] * 1000}, "items"),
        ({"items": [{"product_id": 1, "quantity": 0}]}, "items.0.quantity"),
        ({"items": [{"product_id": 1, "quantity": 100}]}, "items.0.quantity"),
        ({"items": [{"product_id": 1, "quantity": 50}, {"product_id": 1, "quantity": 50}]}, "items"),
        ({"items": [{"product_id": 0, "quantity": 1}]}, "items.0.product_id"),
        ({"items": [{"product_id": "1", "quantity": 1}]}, "items.0.product_id"),
        ({"items": [{"product_id": 10**30, "quantity": 1}]}, "items.0.product_id"),
        ({"items": [{"product_id": 1}]}, "items.0.quantity"),
        ({"items": {"product_id": 1}}, "items"),
        ({"total_amount": "1.00"}, "total_amount"),
        ({"expected_total_amount": "1.005"}, "expected_total_amount"),
        ({"expected_total_amount": -1}, "expected_total_amount"),
        ({"address": {**ADDRESS, "city": ""}}, "address.city"),
        ({"address": {**ADDRESS, "planet": "Mars"}}, "address.planet"),
        ({"remark": "x" * 501}, "remark"),
        ({"remark": "\0"}, "remark"),
    ],
)
def test_bad_input_names_its_field_and_changes_nothing(shop: Shop, buyer: Person, body: dict, field: str):
    assert field in wrong_fields(buyer.send("POST", "/orders", body))
    assert shop.orders_of(buyer.user_id) == []


def test_100_lines_of_99_pieces_are_one_order(shop: Shop, buyer: Person):
    products = [shop.products.add(price="9999999.99", stock=99) for _ in range(100)]
    order = buyer.ordered(*((product, 99) for product in products))
    assert order["total_amount"] == "98999999901.00"
    assert buyer.pay(order["id"]).json["payment"]["amount"] == "98999999901.00"


def test_too_little_stock_says_what_there_is_and_reserves_nothing(shop: Shop, buyer: Person, tea: int):
    rare, archived = shop.products.add(stock=1), shop.products.add(status="archived")
    answer = buyer.order((tea, 1), (rare, 2), (archived, 1), (10**9, 1))
    assert refusal(answer) == (409, "insufficient_stock")
    assert answer.json["items"] == [
        {"product_id": rare, "requested": 2, "available": 1},
        {"product_id": archived, "requested": 1, "available": 0},
        {"product_id": 10**9, "requested": 1, "available": 0},
    ]
    assert shop.products.stock(tea) == 100
    [(order_id, status)] = shop.orders_of(buyer.user_id)
    assert status == "abandoned"
    assert shop.events(order_id) == []


def test_an_abandoned_order_is_nowhere(shop: Shop, buyer: Person, admin: Person, tea: int):
    shop.products.products[tea].stock = 0
    buyer.order((tea, 1))
    [(order_id, _)] = shop.orders_of(buyer.user_id)
    assert buyer.get("/orders").json["items"] == []
    assert admin.get(f"/admin/orders?user_id={buyer.user_id}").json["items"] == []
    for person, path in [
        (buyer, f"/orders/{order_id}"),
        (buyer, f"/orders/{order_id}/history"),
        (admin, f"/admin/orders/{order_id}"),
    ]:
        assert refusal(person.get(path)) == (404, "not_found")
    assert refusal(buyer.pay(order_id)) == (404, "not_found")
    assert refusal(buyer.do("cancel", order_id)) == (404, "not_found")


def test_the_expected_sum_is_taken_as_text_or_number(buyer: Person, tea: int):
    buyer.ordered((tea, 2), expected_total_amount="20.00")
    buyer.ordered((tea, 2), expected_total_amount=20)
    buyer.ordered((tea, 2), expected_total_amount=20.0)


def test_another_sum_than_the_expected_one_is_refused_and_leaves_nothing_reserved(
    shop: Shop, buyer: Person, tea: int
):
    answer = buyer.order((tea, 2), expected_total_amount="19.99")
    assert refusal(answer) == (409, "price_changed")
    assert answer.json["total_amount"] == "20.00"
    assert shop.products.stock(tea) == 100
    assert (
        shop.rows("SELECT * FROM releases WHERE order_id = :o", o=shop.orders_of(buyer.user_id)[0][0]) == []
    )


def test_a_changed_price_is_released_later_when_the_product_service_goes_away(
    shop: Shop, buyer: Person, tea: int
):
    shop.products.before["release"] = lambda _: 500
    assert refusal(buyer.order((tea, 2), expected_total_amount="1.00")) == (409, "price_changed")
    assert shop.products.stock(tea) == 98
    shop.products.before.clear()
    shop.rows("UPDATE releases SET next_try_at = now()")
    shop.work("release reservations")
    assert shop.products.stock(tea) == 100


class TestTheCart:
    def test_it_is_ordered_and_emptied(self, shop: Shop, buyer: Person, tea: int):
        cup = shop.products.add(price="3.50")
        buyer.put_in_cart(tea, 2)
        buyer.put_in_cart(cup, 3)
        order = buyer.ordered()
        assert [(item["product_id"], item["quantity"]) for item in order["items"]] == [(tea, 2), (cup, 3)]
        assert buyer.get("/cart").json["items"] == []

    def test_the_body_may_be_absent(self, buyer: Person, tea: int):
        buyer.put_in_cart(tea)
        assert buyer.send("POST", "/orders").status_code == 201

    def test_an_empty_one_is_refused(self, shop: Shop, buyer: Person, tea: int):
        assert refusal(buyer.order()) == (409, "cart_empty")
        buyer.put_in_cart(tea)
        buyer.ordered()
        assert refusal(buyer.order()) == (409, "cart_empty")
        assert len(shop.orders_of(buyer.user_id)) == 1

    def test_ordering_items_leaves_the_cart_alone(self, buyer: Person, tea: int):
        buyer.put_in_cart(tea, 2)
        buyer.ordered((tea, 2))
        assert len(buyer.get("/cart").json["items"]) == 1

    def test_what_was_changed_meanwhile_stays_in_it(self, shop: Shop, buyer: Person, tea: int):
        cup, can = shop.products.add(), shop.products.add()
        buyer.put_in_cart(tea, 2)
        buyer.put_in_cart(cup, 3)
        # While the product service reserves: one line is changed, one is added.
        shop.products.after["reserve"] = lambda _: (buyer.put_in_cart(cup, 4), buyer.put_in_cart(can, 1))[2:]
        order = buyer.ordered()
        assert [item["quantity"] for item in order["items"]] == [2, 3]
        left = {item["product_id"]: item["quantity"] for item in buyer.get("/cart").json["items"]}
        assert left == {cup: 4, can: 1}

    def test_it_stays_as_it_was_when_the_order_is_refused(self, shop: Shop, buyer: Person, tea: int):
        buyer.put_in_cart(tea, 50)
        shop.products.products[tea].stock = 49
        assert refusal(buyer.order()) == (409, "insufficient_stock")
        assert len(buyer.get("/cart").json["items"]) == 1
        shop.products.products[tea].stock = 50
        buyer.ordered()

    def test_ordered_by_sixteen_at_once_it_becomes_one_order(self, shop: Shop, buyer: Person, tea: int):
        buyer.put_in_cart(tea, 2)
        answers = at_once(*[buyer.order] * 16)
        [good] = [answer.json for answer in answers if answer.status_code == 201]
        refused = [answer for answer in answers if answer.status_code != 201]
        assert {refusal(answer)[1] for answer in refused} <= {"cart_already_ordered", "cart_empty"}
        told = {a.json["order_id"] for a in refused if a.json["code"] == "cart_already_ordered"}
        assert told <= {good["id"]}
        assert shop.products.stock(tea) == 98
        assert [status for _, status in shop.orders_of(buyer.user_id)] == ["pending"]

    def test_who_comes_second_is_told_the_order(self, shop: Shop, buyer: Person, tea: int):
        buyer.put_in_cart(tea, 2)
        # The second one comes while the first is being reserved, so it waits for what becomes of it.
        reserved = threading.Event()

        def linger(_order_id: str) -> None:
            reserved.set()
            time.sleep(1)

        shop.products.after["reserve"] = linger
        first, other = at_once(buyer.order, lambda: reserved.wait(5) and buyer.order())
        assert first.status_code == 201
        assert refusal(other) == (409, "cart_already_ordered")
        assert other.json["order_id"] == first.json["id"]

    def _after(self, seconds: float, call):
        time.sleep(seconds)
        return call()

    def test_who_comes_second_may_order_it_when_the_first_is_refused(
        self, shop: Shop, buyer: Person, tea: int
    ):
        buyer.put_in_cart(tea, 2)

        def away_once(_order_id: str) -> int:
            time.sleep(0.3)
            shop.products.before.clear()
            return 500

        shop.products.before["reserve"] = away_once
        first, other = at_once(buyer.order, lambda: self._after(0.1, lambda: buyer.order()))
        assert refusal(first) == (503, "service_unavailable")
        assert other.status_code == 201

    def test_a_crashed_attempt_blocks_it_for_15_s_only(self, shop: Shop, buyer: Person, tea: int):
        buyer.put_in_cart(tea, 2)
        shop.rows(
            "INSERT INTO orders (id, user_id, status, total_amount, currency, requested, cart_version,"
            " created_at, updated_at) VALUES (:o, :u, 'reserving', 0, 'CNY', '[]',"
            " (SELECT version FROM carts WHERE user_id = :u), now() - interval '16 s', now())",
            o=(stalled := str(uuid.uuid4())),
            u=buyer.user_id,
        )
        order = buyer.ordered()
        assert shop.orders_of(buyer.user_id) == [(stalled, "abandoned"), (order["id"], "pending")]
        shop.work("release reservations")
        assert shop.products.reservations[stalled] == "released"


class TestTheProductServiceBeingAway:
    def test_an_error_is_503_and_leaves_nothing_reserved(self, shop: Shop, buyer: Person, tea: int):
        shop.products.after["reserve"] = lambda _: 500
        answer = buyer.order((tea, 2), key="k")
        assert refusal(answer) == (503, "service_unavailable")
        assert answer.headers["Retry-After"]
        assert shop.products.stock(tea) == 98
        shop.work("release reservations")
        assert shop.products.stock(tea) == 100
        # Nothing was remembered: the same key may order now.
        shop.products.after.clear()
        assert buyer.order((tea, 2), key="k").status_code == 201
        assert [status for _, status in shop.orders_of(buyer.user_id)] == ["abandoned", "pending"]

    def test_a_dropped_reply_is_asked_for_once_more(self, shop: Shop, buyer: Person, tea: int):
        def drop_once(_order_id: str) -> None:
            shop.products.after.clear()
            raise Drop

        shop.products.after["reserve"] = drop_once
        order = buyer.ordered((tea, 2))
        assert shop.products.stock(tea) == 98
        assert shop.products.calls[-2:] == [("reserve", order["id"])] * 2

    def test_silence_is_503_within_6_s(self, shop: Shop, buyer: Person, tea: int):
        shop.products.before["reserve"] = lambda _: time.sleep(8)
        started = time.monotonic()
        assert refusal(buyer.order((tea, 2))) == (503, "service_unavailable")
        assert time.monotonic() - started < 6

    def test_a_refused_connection_is_503_within_3_s(self, make_shop, tea: int):
        shop = make_shop(product_service_url="http://127.0.0.1:9")
        started = time.monotonic()
        assert refusal(shop.person(1).order((tea, 2))) == (503, "service_unavailable")
        assert time.monotonic() - started < 3

    def test_what_arrives_after_the_release_finds_the_tombstone(self, shop: Shop, buyer: Person, tea: int):
        shop.products.before["reserve"] = lambda _: 500
        buyer.order((tea, 2))
        [(order_id, _)] = shop.orders_of(buyer.user_id)
        shop.work("release reservations")
        assert shop.products.reserve(order_id, [{"product_id": tea, "quantity": 2}])[0] == 409
        assert shop.products.stock(tea) == 100

    def test_an_answer_that_makes_no_sense_is_503(self, shop: Shop, buyer: Person, tea: int):
        shop.products.reserve = lambda *_: (200, {"items": []})  # type: ignore[method-assign]
        try:
            assert refusal(buyer.order((tea, 2))) == (503, "service_unavailable")
        finally:
            del shop.products.reserve
        assert [status for _, status in shop.orders_of(buyer.user_id)] == ["abandoned"]


@pytest.mark.parametrize("lines", [1, 100])
def test_an_order_takes_the_same_statements_however_many_lines_it_has(shop: Shop, buyer: Person, lines: int):
    products = [shop.products.add() for _ in range(lines)]
    with shop.statements() as sent:
        buyer.ordered(*((product, 1) for product in products))
    assert len(sent) == 7


@pytest.mark.parametrize("lines", [1, 100])
def test_ordering_a_cart_takes_the_same_statements_however_many_lines_it_has(
    shop: Shop, buyer: Person, lines: int
):
    for _ in range(lines):
        buyer.put_in_cart(shop.products.add())
    with shop.statements() as sent:
        assert buyer.order(key="k").status_code == 201
    assert len(sent) == 15


def test_400_buyers_of_100_pieces_get_100(own_shop: Shop):
    rare = own_shop.products.add(stock=100)
    buyers = [own_shop.person(number) for number in range(1, 401)]

    def buy(some: list[Person]) -> list[int]:
        return [person.order((rare, 1)).status_code for person in some]

    answers = [
        a for some in at_once(*[lambda some=buyers[i::16]: buy(some) for i in range(16)]) for a in some
    ]
    assert (answers.count(201), answers.count(409)) == (100, 300)
    assert own_shop.products.stock(rare) == 0
    [row] = own_shop.rows("SELECT count(*) FROM orders WHERE status = 'pending'")
    assert row.count == 100
