"""Ordering: from the cart or from a list of items, whole or not at all, and once."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from tests.e2e.client import eventually
from tests.e2e.conftest import word

ORDER = set(
    "id user_id status total_amount currency items address remark created_at updated_at expires_at"
    " payment_time payment shipment".split()
)
LINE = {"product_id", "sku", "name", "unit_price", "quantity", "subtotal"}
ADDRESS = {
    "recipient": "张三",
    "phone": "+8613800138000",
    "province": "浙江省",
    "city": "杭州市",
    "district": "西湖区",
    "street": "文三路 1 号",
}


def lines(*pairs):
    """Make the body of an order of these (product, quantity) pairs."""
    return {"items": [{"product_id": product, "quantity": quantity} for product, quantity in pairs]}


class TestFromItems:
    def test_reserves_the_pieces_and_copies_names_and_prices(self, shopper, new_product, stock_of):
        tea, pot = new_product(price="19.90", stock=10), new_product(price="0.35", stock=5)
        created = shopper.post("/orders", lines((tea["id"], 3), (pot["id"], 2)))
        order = created.expect(201)
        assert created.headers["Location"].endswith(f"/api/v1/orders/{order['id']}")
        assert set(order) >= ORDER
        assert (order["status"], order["user_id"]) == ("pending", shopper.user["id"])
        assert (order["total_amount"], order["currency"]) == ("60.40", "CNY")
        line = next(line for line in order["items"] if line["product_id"] == tea["id"])
        assert set(line) >= LINE
        assert (line["sku"], line["name"], line["quantity"]) == (tea["sku"], tea["name"], 3)
        assert (line["unit_price"], line["subtotal"]) == ("19.90", "59.70")
        assert (order["payment"], order["shipment"], order["payment_time"]) == (None, None, None)
        assert (stock_of(tea["id"]), stock_of(pot["id"])) == (7, 3)
        assert shopper.get(f"/orders/{order['id']}").expect(200) == order

    def test_expires_when_the_settings_say(self, shopper, new_order, running_suite):
        order = new_order(shopper)
        created, expires = (datetime.fromisoformat(order[field]) for field in ("created_at", "expires_at"))
        timeout = timedelta(seconds=int(running_suite.env["ORDER_PAYMENT_TIMEOUT"]))
        assert abs(expires - created - timeout) < timedelta(seconds=10)

    def test_keeps_its_price_when_the_product_changes(self, shopper, admin, new_product, new_order):
        product = new_product(price="10.00")
        order = new_order(shopper, (product["id"], 1))
        admin.put(f"/products/{product['id']}", {"name": "renamed", "price": "99.00"}).expect(200)
        admin.delete(f"/products/{product['id']}").expect(204)
        assert shopper.get(f"/orders/{order['id']}").expect(200) == order

    def test_merges_the_lines_of_one_product(self, shopper, new_product, stock_of):
        product = new_product(stock=10)["id"]
        order = shopper.post("/orders", lines((product, 1), (product, 2), (product, 3))).expect(201)
        assert [(line["product_id"], line["quantity"]) for line in order["items"]] == [(product, 6)]
        assert stock_of(product) == 4

    def test_leaves_the_cart_alone(self, customer, new_product):
        carted, ordered = new_product()["id"], new_product()["id"]
        customer.put(f"/cart/items/{carted}", {"quantity": 1})
        customer.post("/orders", lines((ordered, 1))).expect(201)
        assert [line["product_id"] for line in customer.get("/cart").expect(200)["items"]] == [carted]

    def test_takes_address_and_remark(self, shopper, new_product):
        body = lines((new_product()["id"], 1)) | {"address": ADDRESS, "remark": "请放门口 🙂"}
        order = shopper.post("/orders", body).expect(201)
        assert {field: order["address"][field] for field in ADDRESS} == ADDRESS
        assert order["remark"] == "请放门口 🙂"

    def test_of_a_hundred_products_succeeds(self, shopper, new_product):
        products = [new_product(stock=1)["id"] for _ in range(100)]
        order = shopper.post("/orders", lines(*((product, 1) for product in products))).expect(201)
        assert len(order["items"]) == 100
        assert order["total_amount"] == "1000.00"


class TestFromTheCart:
    def test_empties_it(self, customer, new_product, stock_of):
        tea, pot = new_product(stock=10), new_product(stock=10)
        customer.put(f"/cart/items/{tea['id']}", {"quantity": 2})
        customer.put(f"/cart/items/{pot['id']}", {"quantity": 1})
        order = customer.post("/orders", {}).expect(201)
        assert {(line["product_id"], line["quantity"]) for line in order["items"]} == {
            (tea["id"], 2),
            (pot["id"], 1),
        }
        assert customer.get("/cart").expect(200)["items"] == []
        assert (stock_of(tea["id"]), stock_of(pot["id"])) == (8, 9)

    def test_needs_no_body(self, customer, new_product):
        customer.put(f"/cart/items/{new_product()['id']}", {"quantity": 1})
        customer.post("/orders").expect(201)

    def test_of_an_empty_cart_is_refused(self, customer):
        customer.post("/orders", {}).refused(409, "cart_empty")
        customer.post("/orders").refused(409, "cart_empty")

    def test_keeps_the_cart_when_it_is_refused(self, customer, new_product):
        customer.put(f"/cart/items/{new_product(stock=1)['id']}", {"quantity": 2})
        customer.post("/orders", {}).refused(409, "insufficient_stock")
        assert len(customer.get("/cart").expect(200)["items"]) == 1

    def test_twice_at_once_orders_it_once(self, customer, new_product, stock_of):
        product = new_product(stock=10)["id"]
        customer.put(f"/cart/items/{product}", {"quantity": 1})
        with ThreadPoolExecutor(5) as pool:
            replies = list(pool.map(lambda _: customer.post("/orders", {}), range(5)))
        made = [reply.body["id"] for reply in replies if reply.status == 201]
        assert len(made) == 1
        for reply in replies:
            assert reply.status == 201 or reply.code in ("cart_empty", "cart_already_ordered"), reply
            if reply.code == "cart_already_ordered":
                assert reply.body["order_id"] == made[0]
        assert eventually(lambda: stock_of(product) == 9, seconds=5)


class TestRefusedOrders:
    def test_say_what_there_is_and_reserve_nothing(self, customer, admin, new_product, stock_of):
        enough, short, archived = (new_product(stock=n)["id"] for n in (10, 1, 10))
        admin.delete(f"/products/{archived}").expect(204)
        unknown = 999999999
        body = lines((enough, 2), (short, 2), (archived, 1), (unknown, 1))
        problem = customer.post("/orders", body).refused(409, "insufficient_stock")
        assert {
            tuple(item[f] for f in ("product_id", "requested", "available")) for item in problem["items"]
        } == {
            (short, 2, 1),
            (archived, 1, 0),
            (unknown, 1, 0),
        }
        assert (stock_of(enough), stock_of(short)) == (10, 1)
        assert customer.get("/orders").expect(200)["items"] == []

    def test_when_the_sum_is_not_the_expected_one(self, shopper, new_product, stock_of):
        product = new_product(price="10.00", stock=5)["id"]
        for wrong in ("19.99", 20.01):
            body = lines((product, 2)) | {"expected_total_amount": wrong}
            shopper.post("/orders", body).refused(409, "price_changed")
        assert eventually(lambda: stock_of(product) == 5, seconds=10)
        for right in ("20.00", 20):
            shopper.post("/orders", lines((product, 2)) | {"expected_total_amount": right}).expect(201)

    @pytest.mark.parametrize("count", [101, 1000])
    def test_of_more_than_a_hundred_lines(self, shopper, count):
        shopper.post("/orders", lines(*((n, 1) for n in range(1, count + 1)))).invalid("items")

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"items": []}, "items"),
            ({"items": "all"}, "items"),
            ({"items": [{"product_id": 1}]}, "items.0.quantity"),
            ({"items": [{"quantity": 1}]}, "items.0.product_id"),
            ({"items": [{"product_id": 1, "quantity": 0}]}, "items.0.quantity"),
            ({"items": [{"product_id": 1, "quantity": 100}]}, "items.0.quantity"),
            ({"items": [{"product_id": 1, "quantity": "1"}]}, "items.0.quantity"),
            ({"items": [{"product_id": 1, "quantity": 1.5}]}, "items.0.quantity"),
            ({"items": [{"product_id": "1", "quantity": 1}]}, "items.0.product_id"),
            ({"items": [{"product_id": 1, "quantity": 1, "price": "0.01"}]}, "items.0.price"),
            ({"items": [{"product_id": 1, "quantity": 1}, 5]}, "items.1"),
            ({"items": [{"product_id": 1, "quantity": 1}], "status": "paid"}, "status"),
            ({"items": [{"product_id": 1, "quantity": 1}], "user_id": 1}, "user_id"),
            ({"items": [{"product_id": 1, "quantity": 1}], "address": {}}, "address.recipient"),
            ({"items": [{"product_id": 1, "quantity": 1}], "address": "home"}, "address"),
            ({"items": [{"product_id": 1, "quantity": 1}], "remark": 5}, "remark"),
            (
                {"items": [{"product_id": 1, "quantity": 1}], "expected_total_amount": "x"},
                "expected_total_amount",
            ),
        ],
    )
    def test_name_the_field_that_is_wrong(self, shopper, body, field):
        shopper.post("/orders", body).invalid(field)

    def test_of_more_than_99_pieces_of_one_product_in_several_lines(self, shopper, new_product, stock_of):
        product = new_product(stock=500)["id"]
        problem = shopper.post("/orders", lines((product, 60), (product, 40))).refused(
            422, "validation_error"
        )
        assert problem["errors"][0]["field"].startswith("items")
        assert stock_of(product) == 500

    def test_without_a_user(self, anyone):
        anyone.post("/orders", lines((1, 1))).refused(401, "unauthorized")
        anyone.get("/orders").refused(401, "unauthorized")


def test_the_last_pieces_are_sold_once(new_customer, new_product, stock_of):
    product = new_product(stock=5)["id"]
    buyers = [new_customer() for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda n: buyers[n % 4].post("/orders", lines((product, 1))), range(12)))
    assert [reply.status for reply in replies].count(201) == 5
    assert {reply.code for reply in replies if reply.status != 201} == {"insufficient_stock"}
    assert stock_of(product) == 0


class TestReading:
    def test_shows_ones_own_orders_newest_first(self, customer, new_customer, new_product, new_order):
        product = new_product()["id"]
        made = [new_order(customer, (product, 1))["id"] for _ in range(5)]
        new_order(new_customer(), (product, 1))
        assert [order["id"] for order in customer.all("/orders", limit=2)] == made[::-1]

    def test_filters_by_status(self, customer, new_product, new_order, new_paid_order):
        product = new_product()["id"]
        pending, paid = new_order(customer, (product, 1)), new_paid_order(customer, (product, 1))
        assert [order["id"] for order in customer.all("/orders?status=pending")] == [pending["id"]]
        assert [order["id"] for order in customer.all("/orders?status=paid")] == [paid["id"]]
        assert customer.all("/orders?status=shipped") == []
        customer.get("/orders?status=reserving").invalid("query.status")
        customer.get("/orders?status=nonsense").invalid("query.status")
        customer.get("/orders?limit=0").invalid("query.limit")
        customer.get("/orders?cursor=nonsense").refused(400, "invalid_cursor")

    def test_hides_the_orders_of_others(self, customer, new_customer, new_order):
        path = f"/orders/{new_order(customer)['id']}"
        stranger = new_customer()
        stranger.get(path).refused(404, "not_found")
        stranger.get(f"{path}/history").refused(404, "not_found")
        stranger.post(f"{path}/pay", {"method": "sandbox"}).refused(404, "not_found")
        stranger.post(f"{path}/cancel").refused(404, "not_found")
        stranger.post(f"{path}/complete").refused(404, "not_found")
        assert customer.get(path).expect(200)["status"] == "pending"

    @pytest.mark.parametrize("wrong", ["1", "abc", "019ab0c4-7f5e-7cc3-98c4-dc0c0c073981", "0" * 32, "%20"])
    def test_of_what_is_not_there_is_404(self, shopper, wrong):
        shopper.get(f"/orders/{wrong}").refused(404, "not_found")
        shopper.post(f"/orders/{wrong}/pay", {"method": "sandbox"}).refused(404, "not_found")


class TestIdempotencyKey:
    def test_gives_the_same_answer_again(self, shopper, new_product, stock_of):
        product, key = new_product(stock=10)["id"], {"Idempotency-Key": word()}
        first = shopper.post("/orders", lines((product, 1)), headers=key)
        again = shopper.post("/orders", lines((product, 1)), headers=key)
        assert (again.status, again.body) == (201, first.expect(201))
        assert again.headers["Idempotent-Replayed"] == "true"
        assert "Idempotent-Replayed" not in first.headers
        assert stock_of(product) == 9

    def test_compares_bodies_after_parsing(self, shopper, new_product):
        product, key = new_product()["id"], word()
        headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
        first = shopper.post("/orders", lines((product, 1)), headers={"Idempotency-Key": key}).expect(201)
        body = f'{{ "items":[ {{"quantity":1 , "product_id":{product} }} ] }}'.encode()
        assert shopper.send("POST", "/orders", data=body, headers=headers).expect(201) == first

    def test_belongs_to_one_request_of_one_user(self, customer, new_customer, new_product, new_order):
        product, key = new_product(stock=50)["id"], {"Idempotency-Key": word()}
        customer.post("/orders", lines((product, 1)), headers=key).expect(201)
        customer.post("/orders", lines((product, 2)), headers=key).refused(422, "idempotency_key_reused")
        order = new_order(customer, (product, 1))
        other = customer.post(f"/orders/{order['id']}/pay", {"method": "sandbox"}, headers=key)
        other.refused(422, "idempotency_key_reused")
        new_customer().post("/orders", lines((product, 2)), headers=key).expect(201)

    def test_remembers_a_refusal_of_the_use_case(self, shopper, admin, new_product):
        product, key = new_product(stock=0)["id"], {"Idempotency-Key": word()}
        first = shopper.post("/orders", lines((product, 1)), headers=key)
        first.refused(409, "insufficient_stock")
        admin.post(f"/products/{product}/stock", {"delta": 5, "reason": "delivery"}).expect(200)
        again = shopper.post("/orders", lines((product, 1)), headers=key)
        again.refused(409, "insufficient_stock")
        assert again.headers["Idempotent-Replayed"] == "true"
        assert again.body["items"] == first.body["items"]

    def test_stays_free_after_a_request_that_was_refused_before(self, shopper, anyone, new_product):
        product, key = new_product()["id"], {"Idempotency-Key": word()}
        shopper.post("/orders", {"items": []}, headers=key).invalid("items")
        anyone.post("/orders", lines((product, 1)), headers=key).refused(401, "unauthorized")
        malformed = shopper.send(
            "POST", "/orders", data=b"{", headers=key | {"Content-Type": "application/json"}
        )
        malformed.refused(400, "invalid_json")
        shopper.post("/orders", lines((product, 1)), headers=key).expect(201)

    @pytest.mark.parametrize("key", ["", "x" * 256, "has space", "clé", "tab\there"])
    def test_is_visible_ascii(self, shopper, new_product, key):
        headers = {"Idempotency-Key": key.encode().decode("latin-1")}
        refused = shopper.post("/orders", lines((new_product()["id"], 1)), headers=headers)
        refused.refused(400, "invalid_idempotency_key")

    def test_used_several_times_at_once_makes_one_order(self, customer, new_product, stock_of):
        product, key = new_product(stock=10)["id"], {"Idempotency-Key": word()}
        with ThreadPoolExecutor(6) as pool:
            send = lambda _: customer.post("/orders", lines((product, 1)), headers=key)  # noqa: E731
            replies = list(pool.map(send, range(6)))
        assert len({reply.body["id"] for reply in replies if reply.status == 201}) == 1
        for reply in replies:
            assert reply.status == 201 or reply.code == "idempotency_in_progress", reply
            assert reply.status == 201 or int(reply.headers["Retry-After"]) >= 1
        assert stock_of(product) == 9
        assert len(customer.all("/orders")) == 1
