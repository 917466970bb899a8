"""Cancelling, shipping, completing, and the history of it all."""

import pytest

from tests.order.shop import Person, Shop, at_once, refusal, wrong_fields

PARCEL = {"carrier": "顺丰速运", "tracking_number": "SF1234567890"}


class TestCancelling:
    def test_a_pending_order_is_cancelled(self, shop: Shop, buyer: Person, tea: int):
        order = buyer.ordered((tea, 2))
        answer = buyer.do("cancel", order["id"])
        assert (answer.status_code, answer.json["status"], answer.json["payment"]) == (200, "cancelled", None)
        event = shop.events(order["id"])[-1]
        assert (event["type"], event["data"]["reason"]) == ("order.cancelled", "cancelled_by_user")

    def test_a_reason_may_be_given(self, shop: Shop, buyer: Person, tea: int):
        order = buyer.ordered((tea, 2))
        buyer.do("cancel", order["id"], {"reason": "太慢了"})
        assert shop.events(order["id"])[-1]["data"]["reason"] == "太慢了"

    def test_an_administrator_cancels_anybodys(self, shop: Shop, buyer: Person, admin: Person, tea: int):
        order = buyer.ordered((tea, 2))
        assert admin.do("cancel", order["id"]).json["status"] == "cancelled"
        assert shop.events(order["id"])[-1]["data"]["reason"] == "cancelled_by_admin"

    def test_a_paid_order_is_refunded(self, shop: Shop, buyer: Person, tea: int):
        order = buyer.bought((tea, 2))
        answer = buyer.do("cancel", order["id"])
        assert answer.json["status"] == "cancelled"
        assert answer.json["payment"]["status"] == "refunded"
        assert answer.json["payment"]["refunded_amount"] == "20.00"
        assert shop.captured(order["id"]) == [0]
        types = ["order.created", "order.paid", "order.cancelled", "order.refunded"]
        assert shop.event_types(order["id"]) == types
        assert shop.events(order["id"])[-1]["data"]["amount"] == "20.00"

    def test_another_persons_order_is_404(self, shop: Shop, buyer: Person, tea: int):
        order = buyer.ordered((tea, 2))
        stranger = shop.person(buyer.user_id + 10**6)
        assert refusal(stranger.do("cancel", order["id"])) == (404, "not_found")

    def test_what_is_cancelled_shipped_or_completed_is_not_cancelled(
        self, buyer: Person, admin: Person, tea: int
    ):
        cancelled, shipped = buyer.ordered((tea, 1)), buyer.bought((tea, 1))
        buyer.do("cancel", cancelled["id"])
        admin.do("ship", shipped["id"], PARCEL)
        assert refusal(buyer.do("cancel", cancelled["id"])) == (409, "order_not_cancellable")
        assert refusal(admin.do("cancel", shipped["id"])) == (409, "order_not_cancellable")
        buyer.do("complete", shipped["id"])
        assert refusal(buyer.do("cancel", shipped["id"])) == (409, "order_not_cancellable")

    def test_sixteen_at_once_cancel_and_refund_once(self, shop: Shop, buyer: Person, tea: int):
        order = buyer.bought((tea, 2))
        answers = at_once(*[lambda: buyer.do("cancel", order["id"])] * 16)
        assert [answer.status_code for answer in answers].count(200) == 1
        assert shop.event_types(order["id"])[2:] == ["order.cancelled", "order.refunded"]


class TestShippingAndCompleting:
    def test_a_paid_order_goes_its_way(self, shop: Shop, buyer: Person, admin: Person, tea: int):
        order = buyer.bought((tea, 2))
        shipped = admin.do("ship", order["id"], PARCEL).json
        assert shipped["status"] == "shipped"
        assert shipped["shipment"] == PARCEL | {"shipped_at": shipped["shipment"]["shipped_at"]}
        completed = buyer.do("complete", order["id"])
        assert (completed.status_code, completed.json["status"]) == (200, "completed")
        types = ["order.created", "order.paid", "order.shipped", "order.completed"]
        assert shop.event_types(order["id"]) == types
        assert shop.events(order["id"])[2]["data"]["carrier"] == "顺丰速运"

    def test_out_of_turn_is_409(self, buyer: Person, admin: Person, tea: int):
        order = buyer.ordered((tea, 1))
        assert refusal(admin.do("ship", order["id"], PARCEL)) == (409, "order_not_shippable")
        assert refusal(buyer.do("complete", order["id"])) == (409, "order_not_completable")
        buyer.pay(order["id"])
        assert refusal(buyer.do("complete", order["id"])) == (409, "order_not_completable")
        admin.do("ship", order["id"], PARCEL)
        assert refusal(admin.do("ship", order["id"], PARCEL)) == (409, "order_not_shippable")
        buyer.do("complete", order["id"])
        assert refusal(buyer.do("complete", order["id"])) == (409, "order_not_completable")

    def test_only_administrators_ship_and_only_the_buyer_completes(
        self, buyer: Person, admin: Person, tea: int
    ):
        order = buyer.bought((tea, 1))
        assert refusal(buyer.do("ship", order["id"], PARCEL)) == (403, "forbidden")
        admin.do("ship", order["id"], PARCEL)
        assert refusal(admin.do("complete", order["id"])) == (404, "not_found")

    @pytest.mark.parametrize("field", PARCEL)
    def test_a_parcel_needs_carrier_and_number(self, admin: Person, buyer: Person, tea: int, field: str):
        order = buyer.bought((tea, 1))
        assert wrong_fields(admin.do("ship", order["id"], PARCEL | {field: " "})) == [field]

    def test_sixteen_rounds_of_ship_against_cancel_end_in_one_of_both(
        self, shop: Shop, buyer: Person, admin: Person, tea: int
    ):
        for _ in range(16):
            order_id = buyer.bought((tea, 1))["id"]
            ship, cancel = at_once(
                lambda o=order_id: admin.do("ship", o, PARCEL), lambda o=order_id: buyer.do("cancel", o)
            )
            assert sorted([ship.status_code, cancel.status_code]) == [200, 409]
            assert shop.captured(order_id) == [0 if cancel.status_code == 200 else 10]


class TestTheHistory:
    def test_it_shows_every_event_oldest_first(self, buyer: Person, admin: Person, tea: int):
        order = buyer.bought((tea, 2))
        admin.do("refund", order["id"], {"amount": "5.00", "reason": "scratch"})
        history = buyer.get(f"/orders/{order['id']}/history").json
        shown = [entry["type"] for entry in history["items"]]
        assert shown == ["order.created", "order.paid", "order.refunded"]
        assert set(history["items"][0]) == {"type", "occurred_at", "data"}
        assert history["items"][0]["data"]["order_id"] == order["id"]
        times = [entry["occurred_at"] for entry in history["items"]]
        assert times == sorted(times)
        assert times[0].endswith("Z")
        assert admin.get(f"/orders/{order['id']}/history").json == history

    def test_another_persons_is_404(self, shop: Shop, buyer: Person, tea: int):
        order = buyer.ordered((tea, 2))
        stranger = shop.person(buyer.user_id + 10**6)
        assert refusal(stranger.get(f"/orders/{order['id']}/history")) == (404, "not_found")
