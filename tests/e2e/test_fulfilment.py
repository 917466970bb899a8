"""What becomes of an order: cancelled, shipped, completed, refunded; and the books that add up."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.client import eventually

SHIPMENT = {"carrier": "顺丰速运", "tracking_number": "SF1234567890"}


def act(who, order, verb, body=None):
    """Do something to an order."""
    path = f"/orders/{order['id']}/{verb}"
    return who.post(path) if body is None else who.post(path, body)


def refund(admin, order, amount=None, reason="damaged"):
    """Give money back, all that is left unless an amount is named."""
    return act(
        admin, order, "refund", {"reason": reason} | ({"amount": amount} if amount is not None else {})
    )


def returned(stock_of, product, pieces):
    """Wait until the pieces of a product can be sold again."""
    return eventually(lambda: stock_of(product) == pieces, seconds=20)


class TestCancelling:
    def test_a_pending_order_gives_its_pieces_back(self, shopper, new_product, new_order, stock_of):
        product = new_product(stock=10)["id"]
        order = new_order(shopper, (product, 4))
        cancelled = act(shopper, order, "cancel").expect(200)
        assert (cancelled["status"], cancelled["payment"]) == ("cancelled", None)
        assert returned(stock_of, product, 10)
        act(shopper, order, "cancel").refused(409, "order_not_cancellable")
        assert stock_of(product) == 10

    def test_a_paid_order_gives_money_and_pieces_back(self, shopper, new_product, new_paid_order, stock_of):
        product = new_product(stock=10)["id"]
        order = new_paid_order(shopper, (product, 4))
        assert act(shopper, order, "cancel", {}).expect(200)["status"] == "cancelled"
        refunded = eventually(
            lambda: (
                o
                if (o := shopper.get(f"/orders/{order['id']}").body)["payment"]["status"] == "refunded"
                else None
            )
        )
        assert refunded
        assert refunded["payment"]["refunded_amount"] == order["total_amount"]
        assert returned(stock_of, product, 10)

    def test_can_be_done_by_an_administrator(self, admin, shopper, new_order):
        assert act(admin, new_order(shopper), "cancel").expect(200)["status"] == "cancelled"

    def test_comes_too_late_after_shipping(self, shopper, new_shipped_order):
        order = new_shipped_order(shopper)
        act(shopper, order, "cancel").refused(409, "order_not_cancellable")

    def test_and_paying_at_once_leaves_one_truth(self, customer, new_product, new_order, stock_of):
        product = new_product(stock=10)["id"]
        for _ in range(4):
            order = new_order(customer, (product, 1))
            with ThreadPoolExecutor(2) as pool:
                pool.submit(act, customer, order, "pay", {"method": "sandbox"})
                pool.submit(act, customer, order, "cancel")
            seen = eventually(lambda order=order: _settled(customer, order))
            assert seen, customer.get(f"/orders/{order['id']}").body
        held = [order for order in customer.all("/orders") if order["status"] in ("pending", "paid")]
        assert returned(stock_of, product, 10 - len(held))


def _settled(buyer, order):
    """Return the order once no money is where it should not be."""
    seen = buyer.get(f"/orders/{order['id']}").expect(200)
    money = seen["payment"]["status"] if seen["payment"] else None
    fits = {"paid": {"captured"}, "cancelled": {None, "refunded", "failed"}, "pending": {None, "failed"}}
    return seen if money in fits[seen["status"]] else None


class TestShipping:
    def test_is_shown_in_the_order(self, admin, shopper, new_paid_order):
        order = new_paid_order(shopper)
        shipped = act(admin, order, "ship", SHIPMENT).expect(200)
        assert shipped["status"] == "shipped"
        assert {field: shipped["shipment"][field] for field in SHIPMENT} == SHIPMENT
        assert shipped["shipment"]["shipped_at"]
        assert shopper.get(f"/orders/{order['id']}").expect(200) == shipped

    def test_is_for_paid_orders_and_administrators(self, admin, shopper, new_order, new_shipped_order):
        pending = new_order(shopper)
        act(shopper, pending, "ship", SHIPMENT).refused(403, "forbidden")
        act(admin, pending, "ship", SHIPMENT).refused(409, "order_not_shippable")
        act(admin, new_shipped_order(shopper), "ship", SHIPMENT).refused(409, "order_not_shippable")

    @pytest.mark.parametrize("missing", ["carrier", "tracking_number"])
    def test_names_the_field_that_is_missing(self, admin, shopper, new_paid_order, missing):
        body = {field: value for field, value in SHIPMENT.items() if field != missing}
        act(admin, new_paid_order(shopper), "ship", body).invalid(missing)


class TestCompleting:
    def test_is_the_buyers_word(self, admin, shopper, new_shipped_order):
        order = new_shipped_order(shopper)
        assert act(shopper, order, "complete").expect(200)["status"] == "completed"
        act(shopper, order, "complete").refused(409, "order_not_completable")

    def test_comes_after_shipping(self, shopper, new_order, new_paid_order):
        for order in (new_order(shopper), new_paid_order(shopper)):
            act(shopper, order, "complete").refused(409, "order_not_completable")


class TestRefunding:
    def test_in_part_leaves_order_and_stock_alone(
        self, admin, shopper, new_product, new_shipped_order, stock_of
    ):
        product = new_product(price="10.00", stock=10)["id"]
        order = new_shipped_order(shopper, (product, 5))
        once = refund(admin, order, "12.34").expect(200)
        assert once["status"] == "shipped"
        assert (once["payment"]["status"], once["payment"]["refunded_amount"]) == (
            "partially_refunded",
            "12.34",
        )
        refund(admin, order, "37.67").refused(409, "refund_exceeds_payment")
        rest = refund(admin, order, "37.66").expect(200)
        assert rest["status"] == "shipped"
        assert (rest["payment"]["status"], rest["payment"]["refunded_amount"]) == ("refunded", "50.00")
        more = refund(admin, order, "0.01")
        assert more.code in ("refund_exceeds_payment", "order_not_refundable")
        assert more.status == 409
        assert stock_of(product) == 5

    def test_of_a_paid_order_in_full_cancels_it(self, admin, shopper, new_product, new_paid_order, stock_of):
        product = new_product(stock=10)["id"]
        order = new_paid_order(shopper, (product, 2))
        done = refund(admin, order).expect(200)
        assert (done["status"], done["payment"]["status"]) == ("cancelled", "refunded")
        assert done["payment"]["refunded_amount"] == order["total_amount"]
        assert returned(stock_of, product, 10)

    def test_of_a_paid_order_in_parts_cancels_it_with_the_last(
        self, admin, shopper, new_product, new_paid_order, stock_of
    ):
        product = new_product(price="10.00", stock=10)["id"]
        order = new_paid_order(shopper, (product, 2))
        assert refund(admin, order, "5.00").expect(200)["status"] == "paid"
        assert refund(admin, order, "15.00").expect(200)["status"] == "cancelled"
        assert returned(stock_of, product, 10)

    def test_of_a_completed_order_is_possible(self, admin, shopper, new_shipped_order):
        order = new_shipped_order(shopper)
        act(shopper, order, "complete").expect(200)
        done = refund(admin, order).expect(200)
        assert (done["status"], done["payment"]["status"]) == ("completed", "refunded")

    def test_of_an_order_without_money_is_refused(self, admin, shopper, new_order):
        order = new_order(shopper)
        refund(admin, order).refused(409, "order_not_refundable")
        act(shopper, order, "cancel").expect(200)
        refund(admin, order).refused(409, "order_not_refundable")

    def test_is_for_administrators(self, customer, new_paid_order):
        refund(customer, new_paid_order(customer)).refused(403, "forbidden")

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "reason"),
            ({"amount": "0.00", "reason": "x"}, "amount"),
            ({"amount": "-1.00", "reason": "x"}, "amount"),
            ({"amount": "1.001", "reason": "x"}, "amount"),
            ({"amount": True, "reason": "x"}, "amount"),
        ],
    )
    def test_names_the_field_that_is_wrong(self, admin, shopper, new_paid_order, body, field):
        act(admin, new_paid_order(shopper), "refund", body).invalid(field)

    def test_with_an_idempotency_key_gives_money_back_once(self, admin, customer, new_shipped_order):
        order, key = new_shipped_order(customer), {"Idempotency-Key": "k" + customer.user["username"]}
        body = {"amount": "5.00", "reason": "late"}
        first = admin.post(f"/orders/{order['id']}/refund", body, headers=key).expect(200)
        again = admin.post(f"/orders/{order['id']}/refund", body, headers=key)
        assert again.expect(200) == first
        assert again.headers["Idempotent-Replayed"] == "true"
        assert admin.get(f"/admin/orders/{order['id']}").expect(200)["payment"]["refunded_amount"] == "5.00"

    def test_several_at_once_never_give_back_more_than_was_paid(
        self, admin, shopper, new_product, new_shipped_order
    ):
        order = new_shipped_order(shopper, (new_product(price="10.00")["id"], 1))
        with ThreadPoolExecutor(4) as pool:
            replies = list(pool.map(lambda _: refund(admin, order, "4.00"), range(4)))
        assert {reply.status for reply in replies} <= {200, 409}
        given = 4 * [reply.status for reply in replies].count(200)
        shown = admin.get(f"/admin/orders/{order['id']}").expect(200)["payment"]["refunded_amount"]
        assert shown == f"{given}.00"
        assert given <= 8


class TestHistory:
    def test_tells_every_event_oldest_first(self, admin, shopper, new_shipped_order):
        order = new_shipped_order(shopper)
        act(shopper, order, "complete").expect(200)
        refund(admin, order, "1.00").expect(200)
        history = shopper.get(f"/orders/{order['id']}/history").expect(200)
        assert [entry["type"] for entry in history["items"]] == [
            "order.created", "order.paid", "order.shipped", "order.completed", "order.refunded",
        ]  # fmt: skip
        times = [entry["occurred_at"] for entry in history["items"]]
        assert times == sorted(times)
        assert [entry["data"]["status"] for entry in history["items"][:2]] == ["pending", "paid"]
        assert admin.get(f"/orders/{order['id']}/history").expect(200) == history

    def test_of_a_paid_order_that_was_cancelled_tells_of_the_money(self, shopper, new_paid_order):
        order = new_paid_order(shopper)
        act(shopper, order, "cancel").expect(200)
        path = f"/orders/{order['id']}/history"
        told = eventually(
            lambda: t if len(t := [e["type"] for e in shopper.get(path).body["items"]]) == 4 else None
        )
        assert set(told or []) == {"order.created", "order.paid", "order.cancelled", "order.refunded"}


class TestAdministration:
    def test_sees_the_orders_of_all(self, admin, customer, new_customer, new_product, new_order):
        product, other = new_product()["id"], new_customer()
        mine, theirs = new_order(customer, (product, 1)), new_order(other, (product, 1))
        newest = [order["id"] for order in admin.get("/admin/orders?limit=2").expect(200)["items"]]
        assert newest == [theirs["id"], mine["id"]]
        found = admin.all(f"/admin/orders?user_id={customer.user['id']}")
        assert [order["id"] for order in found] == [mine["id"]]
        assert admin.get(f"/admin/orders/{mine['id']}").expect(200) == mine

    def test_filters_by_status_and_time_ends_included(
        self, admin, customer, new_product, new_order, new_paid_order
    ):
        product = new_product()["id"]
        first, second, third = (new_order(customer, (product, 1)), new_paid_order(customer, (product, 1)),
                                new_order(customer, (product, 1)))  # fmt: skip
        mine = f"/admin/orders?user_id={customer.user['id']}"
        ids = lambda query: [order["id"] for order in admin.all(f"{mine}&{query}")]  # noqa: E731
        assert ids("status=paid") == [second["id"]]
        assert ids(f"created_from={second['created_at']}") == [third["id"], second["id"]]
        assert ids(f"created_to={second['created_at']}") == [second["id"], first["id"]]
        assert ids(f"created_from={second['created_at']}&created_to={second['created_at']}") == [second["id"]]

    @pytest.mark.parametrize(
        "query", ["status=x", "user_id=x", "created_from=yesterday", "created_to=1", "limit=101"]
    )
    def test_names_the_parameter_that_is_wrong(self, admin, query):
        admin.get(f"/admin/orders?{query}").invalid(f"query.{query.split('=')[0]}")

    def test_is_for_administrators(self, customer, anyone, new_order):
        order = new_order(customer)
        for path in ("/admin/orders", f"/admin/orders/{order['id']}"):
            customer.get(path).refused(403, "forbidden")
            anyone.get(path).refused(401, "unauthorized")


def test_the_books_add_up(
    admin, customer, new_product, new_order, new_paid_order, new_shipped_order, stock_of
):
    product = new_product(stock=40)["id"]
    new_order(customer, (product, 1))
    act(customer, new_order(customer, (product, 2)), "cancel").expect(200)
    new_paid_order(customer, (product, 3))
    act(customer, new_paid_order(customer, (product, 4)), "cancel").expect(200)
    new_shipped_order(customer, (product, 5))
    completed = new_shipped_order(customer, (product, 6))
    act(customer, completed, "complete").expect(200)
    refund(admin, completed, reason="sent back").expect(200)
    refund(admin, new_paid_order(customer, (product, 7))).expect(200)
    admin.post(f"/products/{product}/stock", {"delta": 6, "reason": "return"}).expect(200)
    admin.post(f"/products/{product}/stock", {"delta": -2, "reason": "damaged"}).expect(200)
    customer.post("/orders", {"items": [{"product_id": product, "quantity": 99}]}).refused(
        409, "insufficient_stock"
    )

    pieces = {"pending": 0, "paid": 0, "shipped": 0, "completed": 0, "cancelled": 0}
    for order in customer.all("/orders"):
        pieces[order["status"]] += sum(line["quantity"] for line in order["items"])
    held, sold = pieces["pending"], pieces["paid"] + pieces["shipped"] + pieces["completed"]
    assert (held, sold) == (1, 14)
    delivered, came_back = 40 - 2, 6
    assert returned(stock_of, product, delivered + came_back - held - sold), stock_of(product)
    ledger = admin.all(f"/products/{product}/stock/movements")
    assert sum(movement["delta"] for movement in ledger) == delivered + came_back - held - sold
