"""Payments that end by a webhook: signed, taken once, harmless in any order."""

import threading
import time
import uuid
from typing import Any

import orjson
import pytest

from order_service.payments.base import Charge
from order_service.payments.signatures import sign
from tests.order.shop import WEBHOOK_SECRET, Hooked, Person, Shop, at_once, refusal, wrong_fields


def begin(buyer: Person, tea: int, **kw: Any) -> tuple[str, str]:
    """Order for 20.00 and begin a payment that waits for its webhook; return the ids of both."""
    order = buyer.ordered((tea, 2))
    answer = buyer.pay(order["id"], "tok_async", **kw)
    assert answer.status_code == 202
    return order["id"], answer.json["payment"]["id"]


def anomalies(shop: Shop, payment_id: str) -> list[tuple[str, str, str]]:
    """Return what is kept of news that do not fit."""
    found = shop.rows("SELECT * FROM payment_anomalies WHERE payment_id = :p ORDER BY id", p=payment_id)
    return [(row.reason, f"{row.amount:.2f}", row.currency) for row in found]


def refunds(shop: Shop, order_id: str) -> list[tuple[str, str]]:
    """Return status and amount of an order's refunds."""
    found = shop.rows("SELECT status, amount FROM refunds WHERE order_id = :o", o=order_id)
    return [(row.status, f"{row.amount:.2f}") for row in found]


def look_again(shop: Shop) -> None:
    """Have every open payment looked at."""
    shop.age(60, payments="next_check_at")
    shop.work("settle payments")


class TestAPaymentThatWaitsForItsWebhook:
    def test_it_is_202_processing_however_often_the_provider_is_asked(
        self, shop: Shop, buyer: Person, tea: int
    ):
        order = buyer.ordered((tea, 2))
        answer = buyer.pay(order["id"], "tok_async")
        assert answer.status_code == 202
        assert (answer.json["status"], answer.json["payment"]["status"]) == ("pending", "processing")
        look_again(shop)
        assert buyer.see(order["id"])["payment"]["status"] == "processing"
        assert refusal(buyer.pay(order["id"])) == (409, "payment_in_progress")
        assert shop.captured(order["id"]) == []

    def test_success_pays_the_order_once(self, shop: Shop, buyer: Person, tea: int):
        order_id, payment_id = begin(buyer, tea)
        answer = shop.webhook(payment_id)
        assert (answer.status_code, answer.data) == (204, b"")
        seen = buyer.see(order_id)
        assert (seen["status"], seen["payment"]["status"]) == ("paid", "captured")
        assert seen["payment_time"]
        look_again(shop)
        assert shop.event_types(order_id) == ["order.created", "order.paid"]
        assert [str(amount) for amount in shop.captured(order_id)] == ["20.00"]

    def test_failure_lets_the_order_be_paid_again(self, shop: Shop, buyer: Person, tea: int):
        order_id, payment_id = begin(buyer, tea)
        assert shop.webhook(payment_id, "payment.failed").status_code == 204
        seen = buyer.see(order_id)
        assert (seen["status"], seen["payment"]["status"]) == ("pending", "failed")
        assert buyer.pay(order_id).status_code == 200
        assert len(shop.captured(order_id)) == 1

    def test_a_paid_one_is_refunded_like_any_other(self, shop: Shop, buyer: Person, tea: int):
        order_id, payment_id = begin(buyer, tea)
        shop.webhook(payment_id)
        assert buyer.do("cancel", order_id).json["payment"]["status"] == "refunded"
        assert shop.captured(order_id) == [0]

    def test_the_repeated_request_is_answered_as_the_first(self, shop: Shop, buyer: Person, tea: int):
        order_id, payment_id = begin(buyer, tea, key="k")
        shop.webhook(payment_id)
        again = buyer.pay(order_id, "tok_async", key="k")
        assert (again.status_code, again.json["payment"]["status"]) == (202, "processing")

    def test_what_the_webhook_said_is_found_in_the_books_when_nobody_could_take_it(
        self, shop: Shop, buyer: Person, tea: int
    ):
        """The service dies between the provider's books and its own."""
        order_id, payment_id = begin(buyer, tea)
        with shop.session():
            body = orjson.dumps(
                {
                    "id": "evt_lost",
                    "type": "payment.succeeded",
                    "payment_id": payment_id,
                    "amount": "20.00",
                    "currency": "CNY",
                }
            )
            Hooked(shop).read_webhook(body, signature=sign(WEBHOOK_SECRET, body, int(time.time())))
        assert buyer.see(order_id)["status"] == "pending"
        look_again(shop)
        assert buyer.see(order_id)["status"] == "paid"


class TestTheSignature:
    def body(self, payment_id: str) -> bytes:
        told = {"id": str(uuid.uuid4()), "type": "payment.succeeded", "payment_id": payment_id}
        return orjson.dumps(told | {"amount": "20.00", "currency": "CNY"})

    @pytest.mark.parametrize(
        "make",
        [
            lambda body, now: None,
            lambda body, now: "",
            lambda body, now: "v1=" + sign(WEBHOOK_SECRET, body, now).partition("v1=")[2],
            lambda body, now: f"t={now},v1=",
            lambda body, now: f"t={now},v1={'0' * 64}",
            lambda body, now: f"t={now},v1=é" + "0" * 63,
            lambda body, now: sign("another-secret", body, now),
            lambda body, now: sign(WEBHOOK_SECRET, body + b" ", now),
            lambda body, now: sign(WEBHOOK_SECRET, body, now).replace(f"t={now}", f"t={now - 1}"),
            lambda body, now: sign(WEBHOOK_SECRET, body, now - 310),
            lambda body, now: sign(WEBHOOK_SECRET, body, now + 310),
            lambda body, now: sign(WEBHOOK_SECRET, body, 10**30),
        ],
    )
    def test_a_missing_wrong_or_old_one_is_400_and_changes_nothing(
        self, shop: Shop, buyer: Person, tea: int, make: Any
    ):
        order_id, payment_id = begin(buyer, tea)
        body = self.body(payment_id)
        answer = shop.raw_webhook(body, make(body, int(time.time())))
        assert refusal(answer) == (400, "invalid_signature")
        look_again(shop)
        assert buyer.see(order_id)["payment"]["status"] == "processing"
        assert shop.captured(order_id) == []

    def test_an_altered_body_is_refused(self, shop: Shop, buyer: Person, tea: int):
        order_id, payment_id = begin(buyer, tea)
        body = self.body(payment_id)
        signature = sign(WEBHOOK_SECRET, body, int(time.time()))
        altered = body.replace(b"20.00", b"0.01")
        assert refusal(shop.raw_webhook(altered, signature)) == (400, "invalid_signature")
        assert shop.raw_webhook(body, signature).status_code == 204
        assert buyer.see(order_id)["status"] == "paid"

    @pytest.mark.parametrize("age", [290, -290])
    def test_one_within_the_window_is_taken(self, shop: Shop, buyer: Person, tea: int, age: int):
        order_id, payment_id = begin(buyer, tea)
        assert shop.webhook(payment_id, age=age).status_code == 204
        assert buyer.see(order_id)["status"] == "paid"

    def test_it_is_looked_at_before_the_body(self, shop: Shop):
        assert refusal(shop.raw_webhook(b"{", None)) == (400, "invalid_signature")
        assert refusal(shop.raw_webhook(b"{", sign(WEBHOOK_SECRET, b"{", int(time.time())))) == (
            400,
            "invalid_json",
        )

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"type": "payment.maybe"}, "type"),
            ({"payment_id": "x"}, "payment_id"),
            ({"payment_id": 7}, "payment_id"),
            ({"amount": "-1"}, "amount"),
            ({"amount": "20.001"}, "amount"),
            ({"currency": "yuan"}, "currency"),
            ({"id": ""}, "id"),
            ({"id": "a\0b"}, "id"),
            ({"more": 1}, "more"),
        ],
    )
    def test_a_wrong_field_is_422(self, shop: Shop, change: dict, field: str):
        fields = {"payment_id": str(uuid.uuid4())} | change
        assert wrong_fields(shop.webhook(**fields)) == [field]

    def test_a_body_that_is_too_large_is_413(self, shop: Shop):
        assert refusal(shop.raw_webhook(b"x" * (1024 * 1024 + 1), "t=1,v1=0")) == (413, "payload_too_large")

    @pytest.mark.parametrize("method", ["gold", "Sandbox", "x" * 41])
    def test_an_unknown_method_is_404(self, shop: Shop, method: str):
        body = self.body(str(uuid.uuid4()))
        answer = shop.raw_webhook(body, sign(WEBHOOK_SECRET, body, int(time.time())), method)
        assert refusal(answer) == (404, "not_found")

    def test_without_the_test_methods_it_is_404(self, make_shop: Any):
        shop = make_shop(app_env="production", payment_test_methods="", amqp_password="only-for-tests-too")
        assert refusal(shop.webhook(uuid.uuid4())) == (404, "not_found")


class TestNewsInAnyOrder:
    def test_the_same_one_again_changes_nothing(self, shop: Shop, buyer: Person, tea: int):
        order_id, payment_id = begin(buyer, tea)
        for _ in range(3):
            assert shop.webhook(payment_id, id="evt_same").status_code == 204
        assert shop.event_types(order_id) == ["order.created", "order.paid"]
        [row] = shop.rows("SELECT count(*) FROM webhooks WHERE id = 'evt_same'")
        assert row.count == 1

    def test_an_id_that_was_taken_is_not_heard_again(self, shop: Shop, buyer: Person, tea: int):
        order_id, payment_id = begin(buyer, tea)
        shop.webhook(payment_id, "payment.failed", id=f"evt_{payment_id}")
        shop.webhook(payment_id, "payment.failed", id=f"evt_{payment_id}", amount="1.00")
        assert anomalies(shop, payment_id) == []
        assert buyer.see(order_id)["payment"]["status"] == "failed"

    def test_a_failure_after_success_undoes_nothing(self, shop: Shop, buyer: Person, tea: int):
        order_id, payment_id = begin(buyer, tea)
        shop.webhook(payment_id)
        assert shop.webhook(payment_id, "payment.failed").status_code == 204
        look_again(shop)
        seen = buyer.see(order_id)
        assert (seen["status"], seen["payment"]["status"]) == ("paid", "captured")
        assert len(shop.captured(order_id)) == 1

    def test_a_success_after_failure_pays_an_order_that_still_waits(
        self, shop: Shop, buyer: Person, tea: int
    ):
        order_id, payment_id = begin(buyer, tea)
        shop.webhook(payment_id, "payment.failed")
        assert shop.webhook(payment_id).status_code == 204
        assert buyer.see(order_id)["status"] == "paid"
        assert len(shop.captured(order_id)) == 1

    def test_a_success_after_failure_beside_another_payment_goes_back_once(
        self, shop: Shop, buyer: Person, tea: int
    ):
        order_id, payment_id = begin(buyer, tea)
        shop.webhook(payment_id, "payment.failed")
        assert buyer.pay(order_id).status_code == 200
        for _ in range(2):
            assert shop.webhook(payment_id).status_code == 204
        shop.work("finish refunds")
        assert buyer.see(order_id)["status"] == "paid"
        assert refunds(shop, order_id) == [("done", "20.00")]
        assert sorted(str(amount) for amount in shop.captured(order_id)) == ["0.00", "20.00"]

    def test_late_money_of_the_younger_payment_leaves_the_order_and_its_payment(
        self, shop: Shop, buyer: Person, admin: Person, tea: int
    ):
        order_id, older = begin(buyer, tea)
        shop.webhook(older, "payment.failed")
        younger = buyer.pay(order_id, "tok_async").json["payment"]["id"]
        shop.webhook(younger, "payment.failed")
        shop.webhook(older)
        shop.webhook(younger)
        shop.work("finish refunds")
        seen = buyer.see(order_id)
        assert (seen["status"], seen["payment"]["id"], seen["payment"]["status"]) == (
            "paid",
            older,
            "captured",
        )
        shipped = admin.do("ship", order_id, {"carrier": "SF", "tracking_number": "1"})
        assert shipped.status_code == 200

    def test_an_open_payment_is_shown_before_late_money(self, shop: Shop, buyer: Person, tea: int):
        order_id, older = begin(buyer, tea)
        shop.webhook(older, "payment.failed")
        younger = buyer.pay(order_id, "tok_async").json["payment"]["id"]
        shop.webhook(older)
        seen = buyer.see(order_id)
        assert (seen["status"], seen["payment"]["id"]) == ("pending", younger)
        shop.webhook(younger)
        assert buyer.see(order_id)["status"] == "paid"

    @pytest.mark.parametrize("stopped", [False, True])
    def test_a_success_after_the_cancellation_goes_back_once(
        self, shop: Shop, buyer: Person, tea: int, stopped: bool
    ):
        order_id, payment_id = begin(buyer, tea)
        buyer.do("cancel", order_id)
        if stopped:
            look_again(shop)
            assert buyer.see(order_id)["payment"]["status"] == "failed"
        for _ in range(2):
            assert shop.webhook(payment_id).status_code == 204
        look_again(shop)
        shop.work("finish refunds", "finish refunds")
        seen = buyer.see(order_id)
        assert (seen["status"], seen["payment"]["status"]) == ("cancelled", "refunded")
        assert refunds(shop, order_id) == [("done", "20.00")]
        assert shop.captured(order_id) == [0]
        assert shop.event_types(order_id) == ["order.created", "order.cancelled", "order.refunded"]

    def test_without_a_webhook_the_order_ends_ten_minutes_after_its_time(
        self, shop: Shop, buyer: Person, tea: int
    ):
        order_id, payment_id = begin(buyer, tea)
        for minutes, status in [(9, "pending"), (11, "cancelled")]:
            shop.rows(
                "UPDATE orders SET expires_at = now() - :m * interval '1 min' WHERE id = :o",
                m=minutes,
                o=order_id,
            )
            look_again(shop)
            shop.work("expire orders")
            assert buyer.see(order_id)["status"] == status
        assert shop.webhook(payment_id).status_code == 204
        shop.work("finish refunds")
        assert buyer.see(order_id)["payment"]["status"] == "refunded"
        assert shop.captured(order_id) == [0]


class TestNewsThatDoNotFit:
    @pytest.mark.parametrize(
        "fields", [{"amount": "19.99"}, {"amount": "2000.00"}, {"amount": 0}, {"currency": "USD"}]
    )
    def test_another_amount_is_recorded_and_never_pays(
        self, shop: Shop, buyer: Person, tea: int, fields: dict
    ):
        order_id, payment_id = begin(buyer, tea)
        for _ in range(2):
            assert shop.webhook(payment_id, id=f"evt_{payment_id}", **fields).status_code == 204
        look_again(shop)
        seen = buyer.see(order_id)
        assert (seen["status"], seen["payment"]["status"]) == ("pending", "processing")
        told = {"amount": "20.00", "currency": "CNY"} | fields
        amount = f"{float(told['amount']):.2f}"
        assert anomalies(shop, payment_id) == [("amount_differs", amount, told["currency"])]
        assert shop.captured(order_id) == []

    def test_the_right_amount_still_pays_afterwards(self, shop: Shop, buyer: Person, tea: int):
        order_id, payment_id = begin(buyer, tea)
        shop.webhook(payment_id, amount="1.00")
        shop.webhook(payment_id)
        assert buyer.see(order_id)["status"] == "paid"
        assert [str(amount) for amount in shop.captured(order_id)] == ["20.00"]

    def test_another_amount_after_success_undoes_nothing(self, shop: Shop, buyer: Person, tea: int):
        order_id, payment_id = begin(buyer, tea)
        shop.webhook(payment_id)
        shop.webhook(payment_id, amount="1.00")
        assert buyer.see(order_id)["status"] == "paid"
        assert anomalies(shop, payment_id) == [("amount_differs", "1.00", "CNY")]

    def test_an_unknown_payment_is_recorded_once(self, shop: Shop):
        payment_id = str(uuid.uuid4())
        for _ in range(2):
            assert shop.webhook(payment_id, id=f"evt_{payment_id}").status_code == 204
        assert anomalies(shop, payment_id) == [("unknown_payment", "20.00", "CNY")]

    def test_another_amount_in_any_providers_answer_never_pays(self, shop: Shop, buyer: Person, tea: int):
        order = buyer.ordered((tea, 2))
        odd = Charge("captured", amount=5, currency="CNY")
        with shop.provider(Hooked(shop, before_charge=lambda _: odd, before_lookup=lambda _: odd)):
            answer = buyer.pay(order["id"])
            assert (answer.status_code, answer.json["payment"]["status"]) == (202, "processing")
            look_again(shop)
            look_again(shop)
            assert buyer.see(order["id"])["status"] == "pending"
        assert anomalies(shop, answer.json["payment"]["id"]) == [("amount_differs", "5.00", "CNY")]

    def test_an_order_does_not_wait_for_ever_for_another_amount(self, shop: Shop, buyer: Person, tea: int):
        order = buyer.ordered((tea, 2))
        odd = Charge("captured", amount=5, currency="CNY")
        with shop.provider(Hooked(shop, before_charge=lambda _: odd, before_lookup=lambda _: odd)):
            buyer.pay(order["id"])
            shop.rows("UPDATE orders SET expires_at = now() - interval '11 min' WHERE id = :o", o=order["id"])
            look_again(shop)
            shop.work("expire orders")
        seen = buyer.see(order["id"])
        assert (seen["status"], seen["payment"]["status"]) == ("cancelled", "failed")


class TestAtTheSameMoment:
    def test_one_webhook_eight_times_pays_once(self, shop: Shop, buyer: Person, tea: int):
        order_id, payment_id = begin(buyer, tea)
        answers = at_once(*[lambda: shop.webhook(payment_id, id=f"evt_{payment_id}")] * 8)
        assert {answer.status_code for answer in answers} == {204}
        assert shop.event_types(order_id) == ["order.created", "order.paid"]

    def test_eight_webhooks_of_one_payment_pay_once(self, shop: Shop, buyer: Person, tea: int):
        order_id, payment_id = begin(buyer, tea)
        answers = at_once(*[lambda: shop.webhook(payment_id)] * 8)
        assert {answer.status_code for answer in answers} == {204}
        assert shop.event_types(order_id) == ["order.created", "order.paid"]

    def test_one_webhook_of_an_unknown_payment_eight_times_is_recorded_once(self, shop: Shop):
        payment_id = str(uuid.uuid4())
        answers = at_once(*[lambda: shop.webhook(payment_id, id=f"evt_{payment_id}")] * 8)
        assert {answer.status_code for answer in answers} == {204}
        assert len(anomalies(shop, payment_id)) == 1

    @pytest.mark.parametrize("moment", ["before_charge", "after_charge"])
    @pytest.mark.parametrize(
        ("type_", "status", "code"), [("payment.succeeded", "paid", 200), ("payment.failed", "pending", 402)]
    )
    def test_a_webhook_before_the_answer_to_the_payment_decides_it(
        self, shop: Shop, buyer: Person, tea: int, moment: str, type_: str, status: str, code: int
    ):
        order = buyer.ordered((tea, 2))

        def tell(payment_id: uuid.UUID) -> None:
            assert shop.webhook(payment_id, type_).status_code == 204

        with shop.provider(Hooked(shop, **{moment: tell})):
            assert buyer.pay(order["id"], "tok_async").status_code == code
        assert buyer.see(order["id"])["status"] == status
        assert len(shop.captured(order["id"])) == (code == 200)

    def test_success_against_cancel_never_loses_money(self, shop: Shop, buyer: Person, tea: int):
        begun = [begin(buyer, tea) for _ in range(12)]
        for order_id, payment_id in begun:
            answers = at_once(lambda p=payment_id: shop.webhook(p), lambda o=order_id: buyer.do("cancel", o))
            assert [answer.status_code for answer in answers] == [204, 200]
        shop.age(60, refunds="next_try_at", payments="next_check_at")
        shop.work("settle payments", "finish refunds")
        for order_id, _ in begun:
            assert buyer.see(order_id)["status"] == "cancelled"
            assert shop.captured(order_id) == [0]
            assert shop.event_types(order_id).count("order.refunded") == 1

    def test_success_against_the_job_that_stops_the_charge_never_loses_money(
        self, shop: Shop, buyer: Person, tea: int
    ):
        begun = [begin(buyer, tea) for _ in range(8)]
        for order_id, payment_id in begun:
            buyer.do("cancel", order_id)
            ready = threading.Barrier(2)

            def tell(payment_id: str = payment_id, ready: threading.Barrier = ready) -> None:
                ready.wait(5)
                assert shop.webhook(payment_id).status_code == 204

            def stop(ready: threading.Barrier = ready) -> None:
                ready.wait(5)
                shop.work("settle payments")

            at_once(tell, stop)
        shop.work("finish refunds")
        for order_id, _ in begun:
            assert refunds(shop, order_id) == [("done", "20.00")]
            assert shop.captured(order_id) == [0]
