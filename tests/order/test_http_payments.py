"""The method `http`, against a bank with books of its own: what its ledger says is what happened."""

import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import orjson
import pytest
from werkzeug.test import TestResponse

from order_service.payments.http import HttpProvider
from order_service.payments.signatures import sign
from tests.faults.outside import BANK_KEY, WEBHOOK_SECRET, Bank, run_bank
from tests.order.shop import Person, Shop, refusal

SETTINGS = {"payment_http_key": BANK_KEY, "payment_http_webhook_secret": WEBHOOK_SECRET}


@pytest.fixture(scope="module")
def running_bank() -> Iterator[Bank]:
    with run_bank() as bank:
        yield bank


@pytest.fixture(scope="module")
def common_shop(make_shop: Callable[..., Shop], running_bank: Bank) -> Iterator[Shop]:
    """A shop with the bank as its provider, which the bank can call."""
    shop = make_shop(payment_http_url=running_bank.url, **SETTINGS)
    with shop.served() as address:
        shop.app.config["ADDRESS"] = address
        yield shop


@pytest.fixture
def bank(running_bank: Bank) -> Iterator[Bank]:
    """The bank, which tells the shop nothing by itself."""
    running_bank.behave(late_reply_seconds=2.6, settle_seconds=0.3, refund_seconds=0.5)
    yield running_bank
    running_bank.ask("DELETE", "/lab/behaviour")


@pytest.fixture
def telling_bank(bank: Bank, shop: Shop) -> Bank:
    """The bank, which calls the shop's webhook."""
    address = shop.app.config["ADDRESS"]
    bank.behave(webhook_url=f"{address}/api/v1/payments/webhooks/http", webhook_late_seconds=0.5)
    return bank


def pay(
    buyer: Person, order: dict[str, Any], token: str | None = None, key: str | None = None
) -> TestResponse:
    """Pay by the bank."""
    return buyer.do("pay", order["id"], {"method": "http"} | ({"token": token} if token else {}), key)


def bought(buyer: Person, tea: int, token: str | None = None) -> dict[str, Any]:
    """Order for 20.00 and pay it; return the order."""
    answer = pay(buyer, buyer.ordered((tea, 2)), token)
    assert (answer.status_code, answer.json["status"]) == (200, "paid"), answer.json
    return answer.json


def begun(buyer: Person, tea: int, token: str) -> tuple[dict[str, Any], str]:
    """Order for 20.00 and begin a payment whose end is open; return the order and the payment's id."""
    order = buyer.ordered((tea, 2))
    answer = pay(buyer, order, token)
    assert (answer.status_code, answer.json["status"]) == (202, "pending"), answer.json
    return order, answer.json["payment"]["id"]


def settle(shop: Shop) -> None:
    """Have every open payment and refund looked at."""
    shop.age(60, payments="next_check_at", refunds="next_try_at")
    shop.work("settle payments", "finish refunds")


def until(happened: Callable[[], Any]) -> None:
    """Wait for something that another process does."""
    ends = time.monotonic() + 15
    while not happened():
        assert time.monotonic() < ends, "it did not happen"
        time.sleep(0.05)


def told(shop: Shop, payment_id: str, type_: str = "payment.succeeded", **fields: Any) -> TestResponse:
    """Tell of a payment of 20.00 as the bank does."""
    news = {
        "id": f"evt_{uuid4()}",
        "type": type_,
        "payment_id": payment_id,
        "amount": "20.00",
        "currency": "CNY",
    }
    body = orjson.dumps(news | fields)
    return shop.raw_webhook(body, sign(WEBHOOK_SECRET, body, int(time.time())), "http")


def anomalies(shop: Shop, payment_id: str) -> list[str]:
    """Return the amounts of news that did not fit."""
    found = shop.rows("SELECT amount FROM payment_anomalies WHERE payment_id = :p", p=payment_id)
    return [f"{row.amount:.2f}" for row in found]


class TestAnAnswerAtOnce:
    @pytest.mark.parametrize("token", [None, "tok_success", "tok_twice"])
    def test_captured_pays_the_order(self, bank: Bank, buyer: Person, tea: int, token: str | None):
        order = bought(buyer, tea, token)
        assert (order["payment"]["method"], order["payment"]["status"]) == ("http", "captured")
        lines = bank.ledger(order["payment"]["id"])
        assert [line["kind"] for line in lines] == ["authorise", "capture"]
        assert (lines[1]["amount"], lines[1]["currency"]) == ("20.00", "CNY")

    def test_declined_is_402_and_the_order_can_be_paid_again(self, bank: Bank, buyer: Person, tea: int):
        order = buyer.ordered((tea, 2))
        assert refusal(pay(buyer, order, "tok_decline")) == (402, "payment_declined")
        declined = buyer.see(order["id"])["payment"]
        assert declined["status"] == "declined"
        assert bank.kinds(declined["id"]) == ["authorise"]
        assert pay(buyer, order).status_code == 200

    def test_an_answer_given_twice_is_not_taken_for_the_next_one(self, bank: Bank, buyer: Person, tea: int):
        ids = [bought(buyer, tea, "tok_twice")["payment"]["id"] for _ in range(5)]
        assert {tuple(bank.kinds(key)) for key in ids} == {("authorise", "capture")}

    def test_the_same_key_again_is_one_charge(self, bank: Bank, buyer: Person, tea: int):
        order, key = buyer.ordered((tea, 2)), str(uuid4())
        first, second = (pay(buyer, order, key=key) for _ in range(2))
        assert (first.status_code, second.status_code, first.json) == (200, 200, second.json)
        assert bank.kinds(first.json["payment"]["id"]) == ["authorise", "capture"]

    def test_another_amount_than_asked_for_is_recorded_and_pays_nothing(
        self, shop: Shop, bank: Bank, buyer: Person, tea: int
    ):
        order, payment_id = begun(buyer, tea, "tok_wrong_amount")
        settle(shop)
        assert buyer.see(order["id"])["status"] == "pending"
        assert anomalies(shop, payment_id) == ["10.00"]


class TestNoDefiniteAnswer:
    @pytest.mark.parametrize(
        "token",
        ["tok_drop_reply", "tok_late", "tok_error", "tok_malformed", "tok_misaddressed", "tok_silent"],
    )
    def test_it_is_unknown_until_asking_settles_it_once(
        self, shop: Shop, bank: Bank, buyer: Person, tea: int, token: str
    ):
        started = time.monotonic()
        order, payment_id = begun(buyer, tea, token)
        assert time.monotonic() - started < 6
        assert buyer.see(order["id"])["payment"]["status"] == "processing"
        assert refusal(pay(buyer, order)) == (409, "payment_in_progress")
        settle(shop)
        settle(shop)
        assert buyer.see(order["id"])["status"] == "paid"
        assert bank.kinds(payment_id) == ["authorise", "capture"]
        assert shop.event_types(order["id"]) == ["order.created", "order.paid"]

    @pytest.mark.parametrize("token", ["tok_never_arrives", "tok_late_arrival"])
    def test_what_did_not_arrive_is_stopped_before_it_does(
        self, shop: Shop, bank: Bank, buyer: Person, tea: int, token: str
    ):
        order, payment_id = begun(buyer, tea, token)
        settle(shop)
        seen = buyer.see(order["id"])
        assert (seen["status"], seen["payment"]["status"]) == ("pending", "failed")
        if token == "tok_late_arrival":
            time.sleep(1.5)
        assert bank.kinds(payment_id) == ["cancel"]
        paid = pay(buyer, order)
        assert paid.status_code == 200
        assert bank.kinds(paid.json["payment"]["id"]) == ["authorise", "capture"]

    def test_a_dripping_answer_does_not_hold_the_buyer_up(self, bank: Bank, buyer: Person, tea: int):
        started = time.monotonic()
        begun(buyer, tea, "tok_drip")
        assert time.monotonic() - started < 6

    def test_a_wrong_key_leaves_the_payment_open_until_it_is_mended(
        self, shop: Shop, bank: Bank, buyer: Person, tea: int
    ):
        wrong = HttpProvider(bank.url, key="wrong", webhook_secret=WEBHOOK_SECRET)
        with shop.provider(wrong):
            order, payment_id = begun(buyer, tea, "tok_success")
            settle(shop)
            assert buyer.see(order["id"])["payment"]["status"] == "processing"
        settle(shop)
        assert buyer.see(order["id"])["payment"]["status"] == "failed"
        assert bank.kinds(payment_id) == ["cancel"]

    def test_a_404_that_is_not_the_providers_own_settles_nothing(
        self, shop: Shop, bank: Bank, buyer: Person, tea: int
    ):
        order, _ = begun(buyer, tea, "tok_drop_reply")
        elsewhere = HttpProvider(bank.url + "/elsewhere", key=BANK_KEY, webhook_secret=WEBHOOK_SECRET)
        with shop.provider(elsewhere):
            settle(shop)
            assert buyer.see(order["id"])["payment"]["status"] == "processing"
        settle(shop)
        assert buyer.see(order["id"])["status"] == "paid"
