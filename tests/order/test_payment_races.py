"""Payments against everything that may happen at the same time: one capture, no money lost from sight."""

import threading
import uuid
from typing import Any

import pytest
from sqlalchemy import select

from chassis.db import transaction
from order_service.models import Payment
from order_service.payments.base import Charge, Unknown
from order_service.services.settling import settle_payment
from tests.order.shop import Hooked, Person, Shop, at_once, refusal


def test_sixteen_at_once_pay_once(shop: Shop, buyer: Person, tea: int):
    order = buyer.ordered((tea, 2))
    answers = at_once(*[lambda: buyer.pay(order["id"])] * 16)
    assert [answer.status_code for answer in answers].count(200) == 1
    others = {refusal(answer) for answer in answers if answer.status_code != 200}
    assert others <= {(409, "payment_in_progress"), (409, "order_not_payable")}
    assert len(shop.captured(order["id"])) == 1
    assert shop.event_types(order["id"]) == ["order.created", "order.paid"]


def test_sixteen_at_once_with_one_key_pay_once(shop: Shop, buyer: Person, tea: int):
    order = buyer.ordered((tea, 2))
    answers = at_once(*[lambda: buyer.pay(order["id"], key="k")] * 16)
    others = {refusal(answer) for answer in answers if answer.status_code != 200}
    assert others <= {(409, "idempotency_in_progress")}
    assert len({answer.text for answer in answers if answer.status_code == 200}) == 1
    assert len(shop.captured(order["id"])) == 1


def test_a_second_payment_is_refused_while_the_provider_is_asked(shop: Shop, buyer: Person, tea: int):
    order = buyer.ordered((tea, 2))
    seen: list[Any] = []

    def meanwhile(_payment_id: uuid.UUID) -> None:
        seen.append(refusal(buyer.pay(order["id"])))

    with shop.provider(Hooked(shop, before_charge=meanwhile)):
        assert buyer.pay(order["id"]).status_code == 200
    assert seen == [(409, "payment_in_progress")]


def test_the_provider_is_asked_outside_any_transaction(shop: Shop, buyer: Person, tea: int):
    order = buyer.ordered((tea, 2))
    seen: list[int] = []

    def look(_payment_id: uuid.UUID) -> None:
        [row] = shop.rows(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'"
            " AND datname = current_database() AND pid <> pg_backend_pid()"
        )
        seen.append(row.count)

    with shop.provider(Hooked(shop, before_charge=look, before_refund=look)):
        buyer.pay(order["id"])
        buyer.do("cancel", order["id"])
    assert seen == [0, 0]


class TestACancelWhileTheProviderIsAsked:
    """The cancel never waits, and the money that comes late goes back by itself."""

    @pytest.mark.parametrize("moment", ["before_charge", "after_charge"])
    def test_money_that_came_goes_back(self, shop: Shop, buyer: Person, tea: int, moment: str):
        order = buyer.ordered((tea, 2))
        cancels: list[int] = []

        def cancel(_payment_id: uuid.UUID) -> None:
            cancels.append(buyer.do("cancel", order["id"]).status_code)

        with shop.provider(Hooked(shop, **{moment: cancel})):
            assert refusal(buyer.pay(order["id"], key="k")) == (409, "order_not_payable")
        assert cancels == [200]
        assert refusal(buyer.pay(order["id"], key="k")) == (409, "order_not_payable")
        shop.work("finish refunds")
        seen = buyer.see(order["id"])
        assert (seen["status"], seen["payment_time"]) == ("cancelled", None)
        assert (seen["payment"]["status"], seen["payment"]["refunded_amount"]) == ("refunded", "20.00")
        assert shop.captured(order["id"]) == [0]
        assert shop.event_types(order["id"]) == ["order.created", "order.cancelled", "order.refunded"]

    def test_money_of_a_silent_provider_is_found_and_goes_back(self, shop: Shop, buyer: Person, tea: int):
        order = buyer.ordered((tea, 2))
        buyer.pay(order["id"], "tok_timeout")
        cancelled = buyer.do("cancel", order["id"])
        assert (cancelled.status_code, cancelled.json["payment"]["status"]) == (200, "processing")
        shop.work("settle payments", "finish refunds")
        assert buyer.see(order["id"])["payment"]["status"] == "refunded"
        assert shop.captured(order["id"]) == [0]
        assert shop.event_types(order["id"])[1:] == ["order.cancelled", "order.refunded"]

    def test_a_charge_that_is_still_open_there_is_stopped_there(self, shop: Shop, buyer: Person, tea: int):
        order = buyer.ordered((tea, 2))
        waiting = Charge("requires_action", redirect_url="https://pay.example/1")
        with shop.provider(Hooked(shop, before_charge=lambda _: waiting, before_lookup=lambda _: waiting)):
            buyer.pay(order["id"])
            buyer.do("cancel", order["id"])
            shop.work("settle payments")
        seen = buyer.see(order["id"])
        assert (seen["status"], seen["payment"]["status"]) == ("cancelled", "failed")
        [row] = shop.rows("SELECT status FROM sandbox_charges WHERE key = :k", k=seen["payment"]["id"])
        assert row.status == "cancelled"

    def test_sixteen_rounds_of_pay_against_cancel_never_lose_money(self, shop: Shop, buyer: Person, tea: int):
        orders = [buyer.ordered((tea, 1))["id"] for _ in range(16)]
        for order_id in orders:
            at_once(lambda o=order_id: buyer.pay(o), lambda o=order_id: buyer.do("cancel", o))
        shop.age(60, refunds="next_try_at")
        shop.work("settle payments", "finish refunds")
        for order_id in orders:
            assert buyer.see(order_id)["status"] == "cancelled"
            assert set(shop.captured(order_id)) <= {0}


class TestExpiryWhileTheProviderIsAsked:
    def test_it_passes_over_the_order_and_the_money_pays_it(self, shop: Shop, buyer: Person, tea: int):
        order = buyer.ordered((tea, 2))

        def expire(_payment_id: uuid.UUID) -> None:
            shop.rows("UPDATE orders SET expires_at = now() WHERE id = :o", o=order["id"])
            shop.work("expire orders")

        with shop.provider(Hooked(shop, before_charge=expire)):
            assert buyer.pay(order["id"]).json["status"] == "paid"
        shop.work("expire orders")
        assert buyer.see(order["id"])["status"] == "paid"

    def test_a_declined_payment_lets_it_expire(self, shop: Shop, buyer: Person, tea: int):
        order = buyer.ordered((tea, 2))

        def expire(_payment_id: uuid.UUID) -> None:
            shop.rows("UPDATE orders SET expires_at = now() WHERE id = :o", o=order["id"])

        with shop.provider(Hooked(shop, before_charge=expire)):
            buyer.pay(order["id"], "tok_decline")
        shop.work("expire orders")
        assert buyer.see(order["id"])["status"] == "cancelled"

    def test_ten_minutes_later_an_open_charge_is_stopped_there_first(
        self, shop: Shop, buyer: Person, tea: int
    ):
        order = buyer.ordered((tea, 2))
        waiting = Charge("processing")
        stopped: list[str] = []
        hooks = {
            "before_charge": lambda _: waiting,
            "before_lookup": lambda _: waiting,
            "before_cancel": lambda _: stopped.append(buyer.see(order["id"])["status"]),
        }
        with shop.provider(Hooked(shop, **hooks)):
            buyer.pay(order["id"])
            for minutes in (9, 11):
                shop.rows(
                    "UPDATE orders SET expires_at = now() - :m * interval '1 min' WHERE id = :o",
                    m=minutes,
                    o=order["id"],
                )
                shop.rows("UPDATE payments SET next_check_at = now() WHERE order_id = :o", o=order["id"])
                shop.work("expire orders", "settle payments")
                assert buyer.see(order["id"])["status"] == "pending"
                assert len(stopped) == (minutes == 11)
        assert stopped == ["pending"]
        shop.work("expire orders")
        seen = buyer.see(order["id"])
        assert (seen["status"], seen["payment"]["status"]) == ("cancelled", "failed")

    def test_a_provider_that_can_not_be_reached_keeps_the_order_open(
        self, shop: Shop, buyer: Person, tea: int
    ):
        def away(_payment_id: uuid.UUID) -> None:
            raise Unknown

        order = buyer.ordered((tea, 2))
        buyer.pay(order["id"], "tok_timeout")
        with shop.provider(Hooked(shop, before_lookup=away)):
            shop.rows("UPDATE orders SET expires_at = now() - interval '1 h' WHERE id = :o", o=order["id"])
            shop.work("settle payments", "expire orders")
            assert buyer.see(order["id"])["status"] == "pending"
        shop.age(60, payments="next_check_at")
        shop.work("settle payments", "expire orders")
        assert buyer.see(order["id"])["status"] == "paid"


class TestWhoeverTakesOver:
    """The first asks the provider and then sleeps, or dies."""

    def take_over(self, shop: Shop, buyer: Person, order_id: str) -> Any:
        shop.rows("UPDATE idempotency_keys SET claimed_at = now() - interval '16 s'")
        return buyer.pay(order_id, key="k")

    @pytest.mark.parametrize("moment", ["before_charge", "after_charge"])
    def test_goes_on_with_the_same_payment(self, shop: Shop, buyer: Person, tea: int, moment: str):
        order = buyer.ordered((tea, 2))
        others: list[Any] = []

        def sleep(_payment_id: uuid.UUID) -> None:
            if not others:
                others.append(None)
                others[0] = self.take_over(shop, buyer, order["id"])

        with shop.provider(Hooked(shop, **{moment: sleep})):
            late = buyer.pay(order["id"], key="k")
        assert (late.status_code, others[0].status_code) == (200, 200)
        assert late.json == others[0].json
        assert late.headers["Idempotent-Replayed"] == "true"
        assert len(shop.captured(order["id"])) == 1
        assert shop.event_types(order["id"]) == ["order.created", "order.paid"]

    def test_finds_it_settled_by_the_job(self, shop: Shop, buyer: Person, tea: int):
        order = buyer.ordered((tea, 2))
        others: list[Any] = []

        def sleep(_payment_id: uuid.UUID) -> None:
            shop.age(60, payments="next_check_at")
            shop.work("settle payments")
            others.append(self.take_over(shop, buyer, order["id"]))

        with shop.provider(Hooked(shop, after_charge=sleep)):
            late = buyer.pay(order["id"], key="k")
        assert (late.status_code, others[0].status_code) == (200, 200)
        assert late.json == others[0].json
        assert len(shop.captured(order["id"])) == 1

    def test_is_told_the_truth_when_the_job_has_stopped_it(self, shop: Shop, buyer: Person, tea: int):
        """The first sleeps before it reaches the provider, the job stops the charge, another payment pays."""
        order = buyer.ordered((tea, 2))
        others: list[Any] = []

        def sleep(_payment_id: uuid.UUID) -> None:
            if not others:
                others.append(None)
                shop.age(60, payments="next_check_at")
                shop.work("settle payments")
                others[0] = buyer.pay(order["id"], key="another")

        with shop.provider(Hooked(shop, before_charge=sleep)):
            late = buyer.pay(order["id"], key="k")
        assert others[0].status_code == 200
        assert refusal(late) == (402, "payment_declined")
        assert len(shop.captured(order["id"])) == 1
        assert buyer.see(order["id"])["payment"]["id"] == others[0].json["payment"]["id"]


class TestNewsThatComesLate:
    """A provider may say anything at any time; here the job asks it about a payment that was given up."""

    def give_up(self, shop: Shop, buyer: Person, order_id: str) -> None:
        def lose(_payment_id: uuid.UUID) -> None:
            raise Unknown

        with shop.provider(Hooked(shop, before_charge=lose)):
            buyer.pay(order_id)
        shop.work("settle payments")
        assert buyer.see(order_id)["payment"]["status"] == "failed"

    def hear(self, shop: Shop, order_id: str, *news: str) -> None:
        for status in news:
            with (
                shop.provider(Hooked(shop, before_lookup=lambda _, s=status: Charge(s))),
                shop.session() as session,
            ):
                with transaction(session) as here:
                    given_up = select(Payment).where(Payment.order_id == order_id)
                    payment = here.scalars(given_up.order_by(Payment.created_at)).first()
                settle_payment(session, shop.desk, payment)

    def test_a_capture_after_all_pays_the_order(self, shop: Shop, buyer: Person, tea: int):
        order = buyer.ordered((tea, 2))
        self.give_up(shop, buyer, order["id"])
        self.hear(shop, order["id"], "captured", "captured", "declined", "processing")
        assert buyer.see(order["id"])["status"] == "paid"
        assert shop.event_types(order["id"]) == ["order.created", "order.paid"]

    def test_a_capture_beside_another_payment_goes_back(self, shop: Shop, buyer: Person, tea: int):
        order = buyer.ordered((tea, 2))
        self.give_up(shop, buyer, order["id"])
        assert buyer.pay(order["id"]).status_code == 200
        self.hear(shop, order["id"], "captured", "captured")
        [(status, amount)] = shop.rows(
            "SELECT status, amount FROM refunds WHERE order_id = :o", o=order["id"]
        )
        assert (status, str(amount)) == ("processing", "20.00")
        assert buyer.see(order["id"])["status"] == "paid"

    def test_a_capture_while_another_payment_is_under_way_goes_back(
        self, shop: Shop, buyer: Person, tea: int
    ):
        order = buyer.ordered((tea, 2))
        self.give_up(shop, buyer, order["id"])
        buyer.pay(order["id"], "tok_timeout")
        self.hear(shop, order["id"], "captured")
        assert buyer.see(order["id"])["status"] == "pending"
        shop.work("settle payments")
        assert buyer.see(order["id"])["status"] == "paid"
        refunds = shop.rows("SELECT amount FROM refunds WHERE order_id = :o", o=order["id"])
        assert [str(row.amount) for row in refunds] == ["20.00"]


def test_no_order_ever_has_two_live_payments(shop: Shop, buyer: Person, tea: int):
    """Whatever the code does, the database refuses it."""
    order = buyer.ordered((tea, 2))
    buyer.pay(order["id"], "tok_timeout")
    with pytest.raises(Exception, match="uq_payments_live_order_id"):
        shop.rows(
            "INSERT INTO payments SELECT gen_random_uuid(), order_id, method, 'requires_action', amount,"
            " currency, 0, 0, null, null, null, 0, now(), now(), now() FROM payments WHERE order_id = :o",
            o=order["id"],
        )


def test_two_workers_settle_a_payment_once(shop: Shop, buyer: Person, tea: int):
    orders = [buyer.ordered((tea, 1))["id"] for _ in range(8)]
    for order_id in orders:
        buyer.pay(order_id, "tok_timeout")
    started = threading.Barrier(4)

    def work() -> None:
        started.wait(5)
        shop.work("settle payments")

    at_once(*[work] * 4)
    for order_id in orders:
        assert shop.event_types(order_id) == ["order.created", "order.paid"]
