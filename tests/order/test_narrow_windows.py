"""Races whose window is one call wide: the rival acts right before or after a named function."""

import threading
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from werkzeug.test import TestResponse

from chassis.errors import DependencyAway
from chassis.idempotency import Once
from order_service.services import paying, placing, refunds
from tests.interleaving import before
from tests.order.shop import Hooked, Person, Shop, at_once, refusal
from tests.order.test_idempotent_orders import outwait_the_claim
from tests.order.test_refunds import away, refund


def fail() -> None:
    """Find that the database does not answer."""
    raise DependencyAway("database")


def test_a_cart_that_grew_while_it_was_ordered_is_not_ordered_twice(shop: Shop, buyer: Person, tea: int):
    """The second attempt begins when the first has its stock, and sees one line more."""
    cup = shop.products.add()
    buyer.put_in_cart(tea, 2)
    waiting = threading.Event()
    others: list[Future[TestResponse]] = []

    with ThreadPoolExecutor(1) as pool:

        def add_and_order() -> None:
            buyer.put_in_cart(cup)
            others.append(pool.submit(buyer.order))
            waiting.wait(2)

        with before(placing._confirm, add_and_order), before(placing._check_not_ordered, waiting.set):
            first, second = buyer.order(), others[0].result()
    assert first.status_code == 201
    assert refusal(second) == (409, "cart_already_ordered")
    assert second.json["order_id"] == first.json["id"]
    assert shop.products.stock(tea) == 98
    assert [item["product_id"] for item in buyer.get("/cart").json["items"]] == [cup]


class TestOneKey:
    def test_a_refusal_that_comes_late_is_not_told_beside_another_answer(
        self, shop: Shop, buyer: Person, tea: int
    ):
        """Between the refusal and its note the other payment fails, and the same key pays."""
        order = buyer.ordered((tea, 2))
        with shop.provider(Hooked(shop, before_charge=away)):
            buyer.pay(order["id"])
        others: list[TestResponse] = []

        def settle_and_pay() -> None:
            shop.work("settle payments")
            others.append(buyer.pay(order["id"], key="k"))

        with before(Once.remember_refusal, settle_and_pay):
            late = buyer.pay(order["id"], key="k")
        assert (late.status_code, others[0].status_code) == (200, 200)
        assert late.json == others[0].json
        assert late.headers["Idempotent-Replayed"] == "true"

    @pytest.mark.parametrize("what", ["place", "pay", "refund"])
    def test_who_lost_its_claim_to_one_still_at_work_changes_nothing(
        self, shop: Shop, buyer: Person, admin: Person, tea: int, what: str
    ):
        order_id = "" if what == "place" else buyer.ordered((tea, 2))["id"]
        if what == "refund":
            buyer.pay(order_id)
        person, step, act = {
            "place": (buyer, placing._confirm, lambda: buyer.order((tea, 2), key="k")),
            "pay": (buyer, paying._conclude, lambda: buyer.pay(order_id, key="k")),
            "refund": (admin, refunds._conclude, lambda: refund(admin, order_id, "5.00", "k")),
        }[what]

        def take_over() -> None:
            shop.rows(
                "UPDATE idempotency_keys SET owner = gen_random_uuid() WHERE user_id = :u", u=person.user_id
            )

        with before(step, take_over):
            assert refusal(act()) == (409, "idempotency_in_progress")
        [row] = shop.rows(
            "SELECT status, resource_id FROM idempotency_keys WHERE user_id = :u", u=person.user_id
        )
        assert row.status is None
        if what == "place":
            assert shop.orders_of(buyer.user_id) == [(str(row.resource_id), "reserving")]
        else:
            table, order_status = {"pay": ("payments", "pending"), "refund": ("refunds", "paid")}[what]
            [begun] = shop.rows(f"SELECT status FROM {table} WHERE id = :i", i=row.resource_id)
            assert begun.status == "processing"
            assert buyer.see(order_id)["status"] == order_status

    @pytest.mark.parametrize("step", [refunds._conclude, refunds.ask_refund])
    def test_a_refund_that_failed_half_way_goes_on_under_its_key(
        self, shop: Shop, buyer: Person, admin: Person, tea: int, step: Any
    ):
        order = buyer.bought((tea, 2))
        with before(step, fail):
            assert refusal(refund(admin, order["id"], "5.00", "k")) == (503, "service_unavailable")
        again = refund(admin, order["id"], "5.00", "k")
        assert (again.status_code, again.json["payment"]["refunded_amount"]) == (200, "5.00")
        assert shop.captured(order["id"]) == [15]
        assert shop.event_types(order["id"])[2:] == ["order.refunded"]

    def test_a_payment_that_failed_half_way_goes_on_under_its_key(self, shop: Shop, buyer: Person, tea: int):
        order = buyer.ordered((tea, 2))
        with before(paying._conclude, fail):
            assert refusal(buyer.pay(order["id"], key="k")) == (503, "service_unavailable")
        again = buyer.pay(order["id"], key="k")
        assert (again.status_code, again.json["status"]) == (200, "paid")
        assert len(shop.captured(order["id"])) == 1

    def test_a_key_resumed_after_its_order_was_cancelled_takes_no_money(
        self, shop: Shop, buyer: Person, tea: int
    ):
        order = buyer.ordered((tea, 2))
        with before(paying._charge, fail):
            assert buyer.pay(order["id"], key="k").status_code == 503
        buyer.do("cancel", order["id"])
        charged: list[uuid.UUID] = []
        with shop.provider(Hooked(shop, before_charge=charged.append)):
            again = buyer.pay(order["id"], key="k")
        assert refusal(again) == (409, "order_not_payable")
        assert charged == []
        shop.work("settle payments")
        seen = buyer.see(order["id"])
        assert (seen["status"], seen["payment"]["status"]) == ("cancelled", "failed")
        assert shop.event_types(order["id"]) == ["order.created", "order.cancelled"]
        assert buyer.pay(order["id"], key="k").headers["Idempotent-Replayed"] == "true"

    def test_an_order_that_failed_half_way_goes_on_with_the_last_piece_that_it_has(
        self, shop: Shop, buyer: Person
    ):
        rare = shop.products.add(stock=1)
        with before(placing._confirm, fail):
            assert refusal(buyer.order((rare, 1), key="k")) == (503, "service_unavailable")
        assert buyer.order((rare, 1), key="k").status_code == 201
        assert [status for _, status in shop.orders_of(buyer.user_id)] == ["pending"]

    def test_a_key_that_is_free_again_may_be_used_for_something_else(
        self, shop: Shop, buyer: Person, admin: Person, tea: int
    ):
        order = buyer.bought((tea, 2))
        with before(refunds._conclude, fail):
            refund(admin, order["id"], "5.00", "k")
        other = refund(admin, order["id"], "6.00", "k")
        assert other.status_code == 200
        assert shop.captured(order["id"]) == [9]
        assert refusal(refund(admin, order["id"], "5.00", "k")) == (422, "idempotency_key_reused")

    def test_who_fails_late_does_not_free_the_key_of_who_took_over(self, shop: Shop, buyer: Person, tea: int):
        order = buyer.ordered((tea, 2))
        others: list[TestResponse] = []

        def take_over() -> None:
            outwait_the_claim(shop)
            others.append(buyer.pay(order["id"], key="k"))

        with before(paying._conclude, fail), before(Once.free, take_over):
            assert buyer.pay(order["id"], key="k").status_code == 503
        again = buyer.pay(order["id"], key="k")
        assert (again.status_code, again.json) == (others[0].status_code, others[0].json)
        assert len(shop.captured(order["id"])) == 1


def test_sixteen_rounds_of_pay_against_expiry_end_in_one_of_both(shop: Shop, buyer: Person, tea: int):
    orders = [buyer.ordered((tea, 1))["id"] for _ in range(16)]
    for order_id in orders:
        shop.rows(
            "UPDATE orders SET expires_at = now() + interval '15 ms' WHERE id = :o",
            o=order_id,
        )
        at_once(
            lambda o=order_id: buyer.pay(o),
            lambda: shop.work("expire orders"),
            lambda: shop.work("expire orders"),
        )
    shop.work("expire orders")
    for order_id in orders:
        status = buyer.see(order_id)["status"]
        assert status in ("paid", "cancelled")
        assert len(shop.captured(order_id)) == (status == "paid")
        assert shop.event_types(order_id)[1:] == [f"order.{status}"]
