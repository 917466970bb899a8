"""The method `http`, against a bank with books of its own: what its ledger says is what happened."""

import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar
from uuid import uuid4

import orjson
import pytest
from werkzeug.test import TestResponse

from chassis.config import BadSetting, ExampleSecret
from deploy.local.ports import free_ports
from order_service import make_jobs, make_providers
from order_service.config import Settings
from order_service.payments.http import HttpProvider
from order_service.payments.registry import Providers
from order_service.payments.signatures import sign
from tests.faults.outside import BANK_KEY, WEBHOOK_SECRET, Bank, run_bank
from tests.order.shop import WEBHOOK_SECRET as SANDBOX_SECRET
from tests.order.shop import Person, Shop, refusal, wrong_fields

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


def taken(bank: Bank, payment_id: str) -> list[dict[str, Any]]:
    """Return the webhooks of a payment that the shop has taken."""
    webhooks = bank.ask("GET", "/lab/webhooks")
    return [told for told in webhooks if told["taken"] and told["body"]["payment_id"] == payment_id]


def answers(bank: Bank, payment_id: str) -> list[str]:
    """Return what the shop answered to the first webhook of a payment."""
    webhooks = bank.ask("GET", "/lab/webhooks")
    return next((told["answers"] for told in webhooks if told["body"]["payment_id"] == payment_id), [])


def refund(admin: Person, order: dict[str, Any], amount: str | None = None) -> TestResponse:
    """Ask for a refund."""
    return admin.do("refund", order["id"], {"reason": "scratch"} | ({"amount": amount} if amount else {}))


def refunded(bank: Bank, order: dict[str, Any]) -> list[str]:
    """Return the amounts that the bank gave back for an order."""
    return [line["amount"] for line in bank.ledger(order["payment"]["id"]) if line["kind"] == "refund"]


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

    def test_a_provider_that_is_away_costs_no_time(self, buyer: Person, shop: Shop, tea: int):
        away = HttpProvider(f"http://127.0.0.1:{free_ports(1)[0]}", key=BANK_KEY, webhook_secret="")
        with shop.provider(away):
            order, _ = begun(buyer, tea, "tok_success")
            settle(shop)
            assert buyer.see(order["id"])["payment"]["status"] == "processing"

    def test_the_job_asks_for_one_a_call_so_that_silence_does_not_add_up(
        self, shop: Shop, bank: Bank, buyer: Person, tea: int
    ):
        begun(buyer, tea, "tok_async_never")
        begun(buyer, tea, "tok_async_never")
        shop.age(60, payments="next_check_at")
        job = next(job for job in make_jobs(shop.desk) if job.name == "settle payments")
        due = "SELECT id FROM payments WHERE status = 'processing' AND next_check_at <= now()"
        before = len(shop.rows(due))
        with shop.session() as session:
            assert job.run(session) is True
        assert len(shop.rows(due)) == before - 1


class TestAPaymentThatEndsLater:
    def test_asking_finds_its_end(self, shop: Shop, bank: Bank, buyer: Person, tea: int):
        order, payment_id = begun(buyer, tea, "tok_async")
        until(lambda: bank.kinds(payment_id) == ["authorise", "capture"])
        settle(shop)
        assert buyer.see(order["id"])["status"] == "paid"

    def test_a_failure_leaves_the_order_to_be_paid_again(
        self, shop: Shop, bank: Bank, buyer: Person, tea: int
    ):
        order, payment_id = begun(buyer, tea, "tok_async_fail")
        until(lambda: bank.kinds(payment_id) == ["authorise", "cancel"])
        settle(shop)
        assert buyer.see(order["id"])["payment"]["status"] == "failed"
        assert pay(buyer, order).status_code == 200

    def test_what_the_buyer_has_to_do_is_handed_on(self, shop: Shop, bank: Bank, buyer: Person, tea: int):
        order = buyer.ordered((tea, 2))
        answer = pay(buyer, order, "tok_action_never")
        payment = answer.json["payment"]
        assert (answer.status_code, payment["status"]) == (202, "requires_action")
        assert payment["redirect_url"] == f"https://bank.example/confirm/{payment['id']}"
        assert payment["client_secret"] == f"secret_{payment['id']}"
        settle(shop)
        assert buyer.see(order["id"])["payment"]["status"] == "requires_action"
        bank.ask("POST", f"/lab/payments/{payment['id']}/capture", {})
        settle(shop)
        assert buyer.see(order["id"])["status"] == "paid"

    @pytest.mark.parametrize("token", ["tok_async_never", "tok_action_never"])
    def test_it_is_stopped_when_its_order_is_cancelled(
        self, shop: Shop, bank: Bank, buyer: Person, tea: int, token: str
    ):
        order, payment_id = begun(buyer, tea, token)
        buyer.do("cancel", order["id"])
        settle(shop)
        assert buyer.see(order["id"])["payment"]["status"] == "failed"
        assert bank.kinds(payment_id) == ["authorise", "cancel"]

    def test_it_is_stopped_when_its_order_can_wait_no_longer(
        self, shop: Shop, bank: Bank, buyer: Person, tea: int
    ):
        order, payment_id = begun(buyer, tea, "tok_async_never")
        shop.rows("UPDATE orders SET expires_at = now() - interval '11 min' WHERE id = :o", o=order["id"])
        settle(shop)
        shop.work("expire orders")
        assert buyer.see(order["id"])["status"] == "cancelled"
        assert bank.kinds(payment_id) == ["authorise", "cancel"]

    def test_a_payment_that_came_before_its_order_was_cancelled_goes_back(
        self, shop: Shop, bank: Bank, buyer: Person, tea: int
    ):
        order, payment_id = begun(buyer, tea, "tok_drop_reply")
        buyer.do("cancel", order["id"])
        settle(shop)
        assert bank.kinds(payment_id) == ["authorise", "capture", "refund"]
        assert buyer.see(order["id"])["payment"]["status"] == "refunded"


class TestWebhooks:
    @pytest.mark.parametrize(
        "token", ["tok_webhook_early", "tok_webhook_late", "tok_webhook_twice", "tok_webhook_reordered"]
    )
    def test_in_whatever_order_they_come_the_order_is_paid_once(
        self, shop: Shop, telling_bank: Bank, buyer: Person, tea: int, token: str
    ):
        order = bought(buyer, tea, token)
        payment_id = order["payment"]["id"]
        news = 2 if token == "tok_webhook_reordered" else 1
        until(lambda: len(taken(telling_bank, payment_id)) == news)
        assert buyer.see(order["id"])["status"] == "paid"
        assert shop.event_types(order["id"]) == ["order.created", "order.paid"]
        assert telling_bank.kinds(payment_id) == ["authorise", "capture"]

    @pytest.mark.parametrize(("token", "status"), [("tok_async", "paid"), ("tok_async_fail", "pending")])
    def test_it_ends_a_payment(
        self, shop: Shop, telling_bank: Bank, buyer: Person, tea: int, token: str, status: str
    ):
        order, payment_id = begun(buyer, tea, token)
        until(lambda: taken(telling_bank, payment_id))
        seen = buyer.see(order["id"])
        assert (seen["status"], seen["payment"]["status"]) == (
            status,
            "captured" if status == "paid" else "failed",
        )

    def test_it_ends_a_payment_whose_answer_was_lost(
        self, shop: Shop, telling_bank: Bank, buyer: Person, tea: int
    ):
        telling_bank.behave(webhook="late")
        order, payment_id = begun(buyer, tea, "tok_drop_reply")
        until(lambda: taken(telling_bank, payment_id))
        assert buyer.see(order["id"])["status"] == "paid"
        settle(shop)
        assert shop.event_types(order["id"]) == ["order.created", "order.paid"]

    def test_the_bank_goes_on_until_the_shop_has_taken_it(
        self, shop: Shop, telling_bank: Bank, buyer: Person, tea: int
    ):
        good = telling_bank.ask("GET", "/lab/behaviour")["webhook_secret"]
        telling_bank.behave(webhook_secret="another one")
        _, refused = begun(buyer, tea, "tok_async")
        until(lambda: answers(telling_bank, refused)[:2] == ["400", "400"])
        assert not taken(telling_bank, refused)
        telling_bank.behave(webhook_secret=good)

    def test_late_money_goes_back_by_itself(self, shop: Shop, telling_bank: Bank, buyer: Person, tea: int):
        order, payment_id = begun(buyer, tea, "tok_async_never")
        buyer.do("cancel", order["id"])
        settle(shop)
        # The provider errs: it said that it would never be captured.
        telling_bank.ask("POST", f"/lab/payments/{payment_id}/capture", {})
        until(lambda: taken(telling_bank, payment_id))
        settle(shop)
        assert telling_bank.kinds(payment_id) == ["authorise", "cancel", "capture", "refund"]
        seen = buyer.see(order["id"])
        assert (seen["status"], seen["payment"]["status"]) == ("cancelled", "refunded")

    def test_a_second_payments_late_money_goes_back_and_the_order_stays_paid(
        self, shop: Shop, telling_bank: Bank, buyer: Person, tea: int
    ):
        order, failed = begun(buyer, tea, "tok_async_fail")
        until(lambda: taken(telling_bank, failed))
        paid = pay(buyer, order).json
        telling_bank.ask("POST", f"/lab/payments/{failed}/capture", {})
        until(lambda: len(taken(telling_bank, failed)) == 2)
        settle(shop)
        assert telling_bank.kinds(failed) == ["authorise", "cancel", "capture", "refund"]
        seen = buyer.see(order["id"])
        assert (seen["status"], seen["payment"]["id"]) == ("paid", paid["payment"]["id"])

    @pytest.mark.parametrize("fields", [{"amount": "19.99"}, {"currency": "USD"}])
    def test_another_amount_is_recorded_and_pays_nothing(
        self, shop: Shop, bank: Bank, buyer: Person, tea: int, fields: dict[str, str]
    ):
        order, payment_id = begun(buyer, tea, "tok_async_never")
        assert told(shop, payment_id, **fields).status_code == 204
        assert buyer.see(order["id"])["status"] == "pending"
        assert anomalies(shop, payment_id) == [fields.get("amount", "20.00")]

    def test_what_the_sandbox_signs_counts_for_nothing(self, shop: Shop, bank: Bank, buyer: Person, tea: int):
        order, payment_id = begun(buyer, tea, "tok_async_never")
        assert shop.webhook(payment_id).status_code == 204
        assert buyer.see(order["id"])["status"] == "pending"
        body = orjson.dumps({"id": "evt", "payment_id": payment_id})
        forged = shop.raw_webhook(body, sign(SANDBOX_SECRET, body, int(time.time())), "http")
        assert refusal(forged) == (400, "invalid_signature")


class TestRefunds:
    def test_parts_and_the_rest_go_back(self, bank: Bank, buyer: Person, admin: Person, tea: int):
        order = bought(buyer, tea)
        assert refund(admin, order, "7.50").status_code == 200
        answer = refund(admin, order)
        assert (answer.status_code, answer.json["status"]) == (200, "cancelled")
        assert refunded(bank, order) == ["7.50", "12.50"]

    def test_cancelling_a_paid_order_gives_its_money_back(self, bank: Bank, buyer: Person, tea: int):
        order = bought(buyer, tea)
        assert buyer.do("cancel", order["id"]).json["payment"]["status"] == "refunded"
        assert refunded(bank, order) == ["20.00"]

    def test_one_that_the_provider_delays_is_202_and_finished_by_the_job(
        self, shop: Shop, bank: Bank, buyer: Person, admin: Person, tea: int
    ):
        order = bought(buyer, tea, "tok_slow_refund")
        answer = refund(admin, order, "5.00")
        assert (answer.status_code, answer.json["payment"]["status"]) == (202, "refunding")
        assert refunded(bank, order) == []
        time.sleep(0.6)
        settle(shop)
        settle(shop)
        seen = buyer.see(order["id"])["payment"]
        assert (seen["status"], seen["refunded_amount"]) == ("partially_refunded", "5.00")
        assert refunded(bank, order) == ["5.00"]
        assert shop.event_types(order["id"])[-1] == "order.refunded"

    def test_one_whose_answer_is_lost_happens_once(
        self, shop: Shop, bank: Bank, buyer: Person, admin: Person, tea: int
    ):
        order = bought(buyer, tea, "tok_drop_refund")
        assert refund(admin, order, "5.00").status_code in (200, 202)
        settle(shop)
        assert buyer.see(order["id"])["payment"]["refunded_amount"] == "5.00"
        assert refunded(bank, order) == ["5.00"]

    def test_one_that_is_refused_leaves_the_money(
        self, shop: Shop, bank: Bank, buyer: Person, admin: Person, tea: int
    ):
        order = bought(buyer, tea, "tok_refuse_refund")
        assert refusal(refund(admin, order)) == (409, "refund_refused")
        assert buyer.see(order["id"])["payment"]["status"] == "captured"
        assert refunded(bank, order) == []

    def test_one_that_a_silent_provider_is_asked_for_stays_open(
        self, shop: Shop, bank: Bank, buyer: Person, admin: Person, tea: int
    ):
        order = bought(buyer, tea)
        with shop.provider(HttpProvider(bank.url, key="wrong", webhook_secret=WEBHOOK_SECRET)):
            assert refund(admin, order).status_code == 202
        settle(shop)
        assert buyer.see(order["id"])["status"] == "cancelled"
        assert refunded(bank, order) == ["20.00"]


class TestWhetherItIsOffered:
    def test_with_an_address_it_is(self, buyer: Person):
        assert "http" in [item["method"] for item in buyer.get("/payments/methods").json["items"]]

    def test_without_one_it_is_not_and_what_it_began_ends_by_webhook(
        self, shop: Shop, bank: Bank, buyer: Person, tea: int
    ):
        order, payment_id = begun(buyer, tea, "tok_async_never")
        closed = HttpProvider("", key="", webhook_secret=WEBHOOK_SECRET)
        with shop.provider(closed):
            assert buyer.get("/payments/methods").json["items"] == []
            assert wrong_fields(pay(buyer, buyer.ordered((tea, 1)))) == ["method"]
            settle(shop)
            assert buyer.see(order["id"])["payment"]["status"] == "processing"
            assert told(shop, payment_id).status_code == 204
        assert buyer.see(order["id"])["status"] == "paid"

    def test_without_a_secret_nobody_can_sign(self, shop: Shop):
        body = b"{}"
        with shop.provider(HttpProvider("", key="", webhook_secret="")):
            answer = shop.raw_webhook(body, sign("", body, int(time.time())), "http")
        assert refusal(answer) == (400, "invalid_signature")


class TestSettings:
    PRODUCTION: ClassVar = {"app_env": "production", "redis_password": "r" * 20, "amqp_password": "a" * 20}

    def test_production_needs_none_of_them(self, make_settings: Callable[..., Settings]):
        empty = {"payment_http_url": "", "payment_http_key": "", "payment_http_webhook_secret": ""}
        settings = make_settings("unused", **self.PRODUCTION, **empty)
        providers = Providers(make_providers(settings), offer_test_methods=settings.offers_test_methods)
        assert providers.offered == []

    @pytest.mark.parametrize("missing", SETTINGS)
    def test_an_address_alone_stops_the_start(self, make_settings: Callable[..., Settings], missing: str):
        with pytest.raises(BadSetting, match=f"^PAYMENT_HTTP_URL is set, but {missing.upper()} is missing"):
            make_settings("unused", **(SETTINGS | {"payment_http_url": "https://bank.example", missing: ""}))

    @pytest.mark.parametrize("name", SETTINGS)
    def test_production_refuses_a_published_secret(self, make_settings: Callable[..., Settings], name: str):
        values = SETTINGS | {"payment_http_url": "https://bank.example", name: "something-change-me"}
        with pytest.raises(ExampleSecret, match=name.upper()):
            make_settings("unused", **self.PRODUCTION, **values)

    @pytest.mark.parametrize("url", ["bank.example", "ftp://bank.example", "https://bank example"])
    def test_what_is_no_address_stops_the_start(self, make_settings: Callable[..., Settings], url: str):
        with pytest.raises(BadSetting, match="PAYMENT_HTTP_URL"):
            make_settings("unused", **SETTINGS, payment_http_url=url)
