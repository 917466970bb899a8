"""Paying an order."""

import time
import uuid

import pytest

from order_service.payments.base import Charge, Unknown
from tests.order.shop import Hooked, Person, Shop, refusal, wrong_fields


@pytest.mark.parametrize("token", [None, "tok_success"])
def test_a_paid_order_is_as_the_contract_says(shop: Shop, buyer: Person, tea: int, token: str | None):
    order = buyer.ordered((tea, 2))
    answer = buyer.pay(order["id"], token)
    paid = answer.json
    assert answer.status_code == 200
    assert (paid["status"], paid["total_amount"]) == ("paid", "20.00")
    assert paid["payment_time"] >= order["created_at"]
    assert paid["payment"] == {
        "id": paid["payment"]["id"],
        "method": "sandbox",
        "status": "captured",
        "amount": "20.00",
        "refunded_amount": "0.00",
    }
    assert buyer.see(order["id"]) == paid
    assert [f"{amount:.2f}" for amount in shop.captured(order["id"])] == ["20.00"]


def test_order_paid_tells_the_others(shop: Shop, buyer: Person, tea: int):
    order = buyer.bought((tea, 2))
    _, event = shop.events(order["id"])
    assert event["type"] == "order.paid"
    assert event["data"]["payment_id"] == order["payment"]["id"]
    assert event["data"]["method"] == "sandbox"
    assert event["data"]["payment_time"] == order["payment_time"]


@pytest.mark.parametrize("token", ["tok_decline", "tok_unheard_of"])
def test_a_declined_payment_is_402_and_the_order_can_be_paid_again(
    shop: Shop, buyer: Person, tea: int, token: str
):
    order = buyer.ordered((tea, 2))
    assert refusal(buyer.pay(order["id"], token)) == (402, "payment_declined")
    seen = buyer.see(order["id"])
    assert (seen["status"], seen["payment"]["status"]) == ("pending", "declined")
    assert shop.captured(order["id"]) == []
    paid = buyer.pay(order["id"])
    assert (paid.status_code, paid.json["payment"]["status"]) == (200, "captured")
    assert len(shop.captured(order["id"])) == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [({"method": "gold"}, "method"), ({}, "method"), ({"method": "sandbox", "token": ""}, "token")],
)
def test_a_wrong_wish_is_422(buyer: Person, tea: int, body: dict, field: str):
    order = buyer.ordered((tea, 1))
    assert wrong_fields(buyer.do("pay", order["id"], body)) == [field]


def test_another_persons_order_is_404(buyer: Person, admin: Person, tea: int):
    order = buyer.ordered((tea, 1))
    assert refusal(admin.pay(order["id"])) == (404, "not_found")
    assert refusal(buyer.pay(str(uuid.uuid4()))) == (404, "not_found")
    assert refusal(buyer.pay("x")) == (404, "not_found")


def test_a_paid_or_cancelled_order_can_not_be_paid(buyer: Person, tea: int):
    paid, cancelled = buyer.bought((tea, 1)), buyer.ordered((tea, 1))
    buyer.do("cancel", cancelled["id"])
    for order in (paid, cancelled):
        assert refusal(buyer.pay(order["id"])) == (409, "order_not_payable")


def test_an_order_whose_time_is_over_can_not_be_paid(shop: Shop, buyer: Person, tea: int):
    order = buyer.ordered((tea, 1))
    shop.rows("UPDATE orders SET expires_at = now() WHERE id = :o", o=order["id"])
    assert refusal(buyer.pay(order["id"])) == (409, "order_not_payable")


class TestTheProviderNotAnswering:
    def test_it_is_202_processing(self, shop: Shop, buyer: Person, tea: int):
        order = buyer.ordered((tea, 2))
        answer = buyer.pay(order["id"], "tok_timeout")
        assert answer.status_code == 202
        assert (answer.json["status"], answer.json["payment"]["status"]) == ("pending", "processing")
        assert answer.json["payment"]["redirect_url"] is None
        assert buyer.see(order["id"])["payment"]["status"] == "processing"
        assert shop.event_types(order["id"]) == ["order.created"]

    def test_the_real_sandbox_keeps_silent_for_less_than_6_s(self, shop: Shop, buyer: Person, tea: int):
        order = buyer.ordered((tea, 2))
        provider = Hooked(shop)
        provider._silent_seconds = 2.0
        started = time.monotonic()
        with shop.provider(provider):
            assert buyer.pay(order["id"], "tok_timeout").status_code == 202
        assert 2 <= time.monotonic() - started < 6

    def test_it_takes_no_other_payment_meanwhile(self, buyer: Person, tea: int):
        order = buyer.ordered((tea, 2))
        buyer.pay(order["id"], "tok_timeout")
        answer = buyer.pay(order["id"])
        assert refusal(answer) == (409, "payment_in_progress")
        assert answer.headers["Retry-After"]

    def test_it_is_settled_by_asking_the_provider_once(self, shop: Shop, buyer: Person, tea: int):
        order = buyer.ordered((tea, 2))
        buyer.pay(order["id"], "tok_timeout")
        shop.work("settle payments")
        shop.work("settle payments")
        seen = buyer.see(order["id"])
        assert (seen["status"], seen["payment"]["status"]) == ("paid", "captured")
        assert shop.event_types(order["id"]) == ["order.created", "order.paid"]
        assert len(shop.captured(order["id"])) == 1

    def test_what_never_arrived_there_is_cancelled_there_and_the_order_can_be_paid_again(
        self, shop: Shop, buyer: Person, tea: int
    ):
        def lose(_payment_id: uuid.UUID) -> None:
            raise Unknown

        order = buyer.ordered((tea, 2))
        with shop.provider(Hooked(shop, before_charge=lose)):
            assert buyer.pay(order["id"]).status_code == 202
        shop.work("settle payments")
        seen = buyer.see(order["id"])
        assert (seen["status"], seen["payment"]["status"]) == ("pending", "failed")
        lost = uuid.UUID(seen["payment"]["id"])
        assert buyer.pay(order["id"]).status_code == 200
        # Should the lost one arrive after all, the provider takes no money for it.
        with shop.session():
            late = Hooked(shop).charge(lost, amount=20, currency="CNY", token=None)
        assert late == Charge("cancelled")
        assert len(shop.captured(order["id"])) == 1

    def test_it_stays_open_while_the_provider_is_away(self, shop: Shop, buyer: Person, tea: int):
        def away(_payment_id: uuid.UUID) -> None:
            raise Unknown

        order = buyer.ordered((tea, 2))
        with shop.provider(Hooked(shop, before_lookup=away)):
            buyer.pay(order["id"], "tok_timeout")
            shop.work("settle payments")
            assert buyer.see(order["id"])["payment"]["status"] == "processing"
            assert refusal(buyer.pay(order["id"])) == (409, "payment_in_progress")
        shop.age(60, payments="next_check_at")
        shop.work("settle payments")
        assert buyer.see(order["id"])["status"] == "paid"

    def test_the_pause_between_two_looks_grows_to_15_s(self, shop: Shop, buyer: Person, tea: int):
        order = buyer.ordered((tea, 2))
        pauses = []
        with shop.provider(Hooked(shop, before_lookup=lambda _: Charge("processing"))):
            buyer.pay(order["id"], "tok_timeout")
            for _ in range(6):
                shop.rows("UPDATE payments SET next_check_at = now() WHERE order_id = :o", o=order["id"])
                shop.work("settle payments")
                [row] = shop.rows(
                    "SELECT extract(epoch FROM next_check_at - now()) AS s FROM payments WHERE order_id = :o",
                    o=order["id"],
                )
                pauses.append(round(row.s))
        assert pauses == [2, 4, 8, 15, 15, 15]


class TestAPaymentThatNeedsTheBuyer:
    ACTION = Charge("requires_action", redirect_url="https://pay.example/1", client_secret="s")

    def test_it_is_202_with_what_to_do(self, shop: Shop, buyer: Person, tea: int):
        order = buyer.ordered((tea, 2))
        with shop.provider(Hooked(shop, before_charge=lambda _: self.ACTION)):
            answer = buyer.pay(order["id"])
        assert answer.status_code == 202
        payment = answer.json["payment"]
        assert payment["status"] == "requires_action"
        assert (payment["redirect_url"], payment["client_secret"]) == ("https://pay.example/1", "s")
        assert "client_secret" not in buyer.see(order["id"])["payment"]

    def test_it_is_settled_when_the_provider_says_so(self, shop: Shop, buyer: Person, tea: int):
        order = buyer.ordered((tea, 2))
        with shop.provider(Hooked(shop, before_charge=lambda _: self.ACTION)):
            buyer.pay(order["id"])
        with shop.provider(Hooked(shop, before_lookup=lambda _: Charge("captured"))):
            shop.age(60, payments="next_check_at")
            shop.work("settle payments")
        assert buyer.see(order["id"])["status"] == "paid"


class TestIdempotency:
    def test_a_repeated_payment_gets_the_same_answer(self, shop: Shop, buyer: Person, tea: int):
        order = buyer.ordered((tea, 2))
        first, second = buyer.pay(order["id"], key="k"), buyer.pay(order["id"], key="k")
        assert (first.status_code, first.json) == (second.status_code, second.json)
        assert second.headers["Idempotent-Replayed"] == "true"
        assert len(shop.captured(order["id"])) == 1

    def test_a_declined_one_stays_declined_under_its_key(self, shop: Shop, buyer: Person, tea: int):
        order = buyer.ordered((tea, 2))
        first = buyer.pay(order["id"], "tok_decline", key="k")
        second = buyer.pay(order["id"], "tok_decline", key="k")
        assert refusal(first) == refusal(second) == (402, "payment_declined")
        assert second.headers["Idempotent-Replayed"] == "true"
        assert buyer.pay(order["id"], key="other").status_code == 200

    def test_an_open_one_stays_202_under_its_key(self, shop: Shop, buyer: Person, tea: int):
        order = buyer.ordered((tea, 2))
        first = buyer.pay(order["id"], "tok_timeout", key="k")
        shop.work("settle payments")
        second = buyer.pay(order["id"], "tok_timeout", key="k")
        assert (first.status_code, second.status_code) == (202, 202)
        assert first.json == second.json
        assert buyer.see(order["id"])["status"] == "paid"

    def test_one_key_pays_one_order(self, buyer: Person, tea: int):
        one, other = buyer.ordered((tea, 1)), buyer.ordered((tea, 1))
        buyer.pay(one["id"], key="k")
        assert refusal(buyer.pay(other["id"], key="k")) == (422, "idempotency_key_reused")


class TestTheMethods:
    def test_everybody_sees_them(self, shop: Shop):
        answer = shop.app.test_client().get("/api/v1/payments/methods")
        assert answer.json["items"] == [{"method": "sandbox", "name": "Sandbox (no money moves)"}]
        assert answer.json["next_cursor"] is None

    @pytest.mark.parametrize(("setting", "there"), [("", False), ("0", False), ("1", True)])
    def test_in_production_the_test_methods_are_there_only_when_asked_for(
        self, make_shop, setting: str, there: bool
    ):
        shop = make_shop(
            app_env="production",
            payment_test_methods=setting,
            amqp_password="only-for-tests-too",
        )
        shown = shop.app.test_client().get("/api/v1/payments/methods").json["items"]
        assert [method["method"] for method in shown] == (["sandbox"] if there else [])
        buyer = shop.person(1)
        order = buyer.ordered((shop.products.add(), 1))
        answer = buyer.pay(order["id"])
        assert answer.status_code == (200 if there else 422)
        if not there:
            assert wrong_fields(answer) == ["method"]


@pytest.mark.parametrize("lines", [1, 100])
def test_paying_takes_the_same_statements_however_many_lines_there_are(shop: Shop, buyer: Person, lines: int):
    order = buyer.ordered(*((shop.products.add(), 1) for _ in range(lines)))
    with shop.statements() as sent:
        assert buyer.pay(order["id"], key="k").status_code == 200
    assert len(sent) == 15
