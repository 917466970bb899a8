"""Refunds."""

import uuid
from decimal import Decimal
from typing import Any

import pytest

from order_service.payments.base import Repayment, Unknown
from order_service.services.refunds import ASK_AGAIN
from tests.order.shop import Hooked, Person, Shop, at_once, refusal, wrong_fields

PARCEL = {"carrier": "SF", "tracking_number": "1"}


def away(_key: uuid.UUID) -> None:
    """Give no answer."""
    raise Unknown


def refund(admin: Person, order_id: str, amount: Any = None, key: str | None = None) -> Any:
    """Ask for a refund."""
    body = {"reason": "scratch"} | ({} if amount is None else {"amount": amount})
    return admin.do("refund", order_id, body, key)


def test_a_part_goes_back_and_the_order_stays_paid(shop: Shop, buyer: Person, admin: Person, tea: int):
    order = buyer.bought((tea, 2))
    answer = refund(admin, order["id"], "7.50")
    assert (answer.status_code, answer.json["status"]) == (200, "paid")
    assert answer.json["payment"]["status"] == "partially_refunded"
    assert answer.json["payment"]["refunded_amount"] == "7.50"
    event = shop.events(order["id"])[-1]
    assert event["type"] == "order.refunded"
    assert (event["data"]["amount"], event["data"]["reason"]) == ("7.50", "scratch")
    assert shop.captured(order["id"]) == [Decimal("12.50")]


@pytest.mark.parametrize("parts", [[None], ["20.00"], ["5.00", "15.00"], ["5.00", None]])
def test_a_paid_order_refunded_in_full_becomes_cancelled(
    shop: Shop, buyer: Person, admin: Person, tea: int, parts: list
):
    order = buyer.bought((tea, 2))
    answers = [refund(admin, order["id"], part) for part in parts]
    assert [answer.status_code for answer in answers] == [200] * len(parts)
    assert (answers[-1].json["status"], answers[-1].json["payment"]["status"]) == ("cancelled", "refunded")
    assert shop.event_types(order["id"])[-2:] == ["order.refunded", "order.cancelled"]
    assert shop.events(order["id"])[-1]["data"]["reason"] == "refunded"
    assert shop.captured(order["id"]) == [0]
    assert refusal(refund(admin, order["id"], "0.01")) == (409, "order_not_refundable")


@pytest.mark.parametrize("step", ["shipped", "completed"])
def test_a_later_refund_leaves_the_status_alone(
    shop: Shop, buyer: Person, admin: Person, tea: int, step: str
):
    order = buyer.bought((tea, 2))
    admin.do("ship", order["id"], PARCEL)
    if step == "completed":
        buyer.do("complete", order["id"])
    answer = refund(admin, order["id"])
    assert (answer.status_code, answer.json["status"]) == (200, step)
    assert answer.json["payment"]["status"] == "refunded"
    assert "order.cancelled" not in shop.event_types(order["id"])
    assert refusal(refund(admin, order["id"])) == (409, "refund_exceeds_payment")


def test_more_than_what_is_left_is_refused(shop: Shop, buyer: Person, admin: Person, tea: int):
    order = buyer.bought((tea, 2))
    assert refusal(refund(admin, order["id"], "20.01")) == (409, "refund_exceeds_payment")
    refund(admin, order["id"], "5.00")
    answer = refund(admin, order["id"], "15.01")
    assert refusal(answer) == (409, "refund_exceeds_payment")
    assert answer.json["left"] == "15.00"
    assert shop.captured(order["id"]) == [15]


def test_what_is_not_paid_is_not_refunded(buyer: Person, admin: Person, tea: int):
    order = buyer.ordered((tea, 1))
    assert refusal(refund(admin, order["id"])) == (409, "order_not_refundable")
    assert refusal(refund(admin, str(uuid.uuid4()))) == (404, "not_found")
    assert refusal(refund(buyer, order["id"])) == (403, "forbidden")


@pytest.mark.parametrize("amount", ["0", "0.00", -1, "-1.00", "1.001", "1e2", "many", True])
def test_a_wrong_amount_is_422(buyer: Person, admin: Person, tea: int, amount: Any):
    order = buyer.bought((tea, 1))
    assert wrong_fields(refund(admin, order["id"], amount)) == ["amount"]


def test_a_reason_is_needed(buyer: Person, admin: Person, tea: int):
    order = buyer.bought((tea, 1))
    assert wrong_fields(admin.do("refund", order["id"], {})) == ["reason"]


def test_sixteen_parts_at_once_never_exceed_the_payment(shop: Shop, buyer: Person, admin: Person, tea: int):
    order = buyer.bought((tea, 2))
    answers = at_once(*[lambda: refund(admin, order["id"], "3.00")] * 16)
    good = [answer for answer in answers if answer.status_code == 200]
    others = {refusal(answer) for answer in answers if answer.status_code != 200}
    assert len(good) == 6
    assert others == {(409, "refund_exceeds_payment")}
    assert shop.captured(order["id"]) == [2]
    assert buyer.see(order["id"])["payment"]["refunded_amount"] == "18.00"


def test_a_cancel_beside_a_part_under_way_gives_back_the_rest(
    shop: Shop, buyer: Person, admin: Person, tea: int
):
    order = buyer.bought((tea, 2))
    cancels: list[int] = []

    def cancel(_refund_id: uuid.UUID) -> None:
        if not cancels:
            cancels.append(200)
            cancels[0] = buyer.do("cancel", order["id"]).status_code

    with shop.provider(Hooked(shop, before_refund=cancel)):
        answer = refund(admin, order["id"], "5.00")
    assert (cancels, answer.status_code) == ([200], 200)
    assert (answer.json["status"], answer.json["payment"]["refunded_amount"]) == ("cancelled", "20.00")
    types = shop.event_types(order["id"])[2:]
    assert types == ["order.cancelled", "order.refunded", "order.refunded"]


def test_what_goes_back_in_full_can_not_be_shipped_meanwhile(
    shop: Shop, buyer: Person, admin: Person, tea: int
):
    order = buyer.bought((tea, 2))
    with shop.provider(Hooked(shop, before_refund=away)):
        assert refund(admin, order["id"]).status_code == 202
    assert refusal(admin.do("ship", order["id"], PARCEL)) == (409, "order_not_shippable")


class TestTheProviderDelaying:
    @pytest.mark.parametrize("how", [away, lambda _: Repayment("processing")])
    def test_it_is_202_and_finished_by_the_job_once(
        self, shop: Shop, buyer: Person, admin: Person, tea: int, how: Any
    ):
        order = buyer.bought((tea, 2))
        with shop.provider(Hooked(shop, before_refund=how)):
            answer = refund(admin, order["id"], "5.00", "k")
        assert (answer.status_code, answer.json["payment"]["status"]) == (202, "refunding")
        assert answer.json["payment"]["refunded_amount"] == "0.00"
        shop.age(60, refunds="next_try_at")
        shop.work("finish refunds")
        shop.work("finish refunds")
        assert buyer.see(order["id"])["payment"]["status"] == "partially_refunded"
        assert shop.event_types(order["id"])[2:] == ["order.refunded"]
        assert shop.captured(order["id"]) == [15]
        again = refund(admin, order["id"], "5.00", "k")
        assert (again.status_code, again.json) == (202, answer.json)

    def test_a_lost_answer_gives_nothing_back_twice(self, shop: Shop, buyer: Person, admin: Person, tea: int):
        order = buyer.bought((tea, 2))
        with shop.provider(Hooked(shop, after_refund=away)):
            assert refund(admin, order["id"], "5.00").status_code == 202
        assert shop.captured(order["id"]) == [15]
        shop.age(60, refunds="next_try_at")
        shop.work("finish refunds")
        assert shop.captured(order["id"]) == [15]
        assert buyer.see(order["id"])["payment"]["refunded_amount"] == "5.00"

    def test_money_on_its_way_counts_as_gone(self, shop: Shop, buyer: Person, admin: Person, tea: int):
        order = buyer.bought((tea, 2))
        with shop.provider(Hooked(shop, before_refund=away)):
            refund(admin, order["id"], "15.00")
        assert refusal(refund(admin, order["id"], "5.01")) == (409, "refund_exceeds_payment")

    def test_a_cancel_answers_at_once_and_the_job_finishes_it(self, shop: Shop, buyer: Person, tea: int):
        order = buyer.bought((tea, 2))
        with shop.provider(Hooked(shop, before_refund=away)):
            answer = buyer.do("cancel", order["id"])
        assert (answer.status_code, answer.json["status"]) == (200, "cancelled")
        assert answer.json["payment"]["status"] == "refunding"
        shop.age(60, refunds="next_try_at")
        shop.work("finish refunds")
        assert buyer.see(order["id"])["payment"]["status"] == "refunded"


def test_a_refused_refund_is_told_and_the_amount_is_free_again(
    shop: Shop, buyer: Person, admin: Person, tea: int
):
    order = buyer.bought((tea, 2))
    with shop.provider(Hooked(shop, before_refund=lambda _: Repayment("refused", "too old"))):
        assert refusal(refund(admin, order["id"], "5.00")) == (409, "refund_refused")
    seen = buyer.see(order["id"])
    assert (seen["status"], seen["payment"]["status"]) == ("paid", "captured")
    assert refund(admin, order["id"]).status_code == 200


def refuse(_refund_id: uuid.UUID) -> Repayment:
    return Repayment("refused", "no funds just now")


def finish_refunds(shop: Shop) -> None:
    """Let a day and a night pass, and the job run."""
    shop.age(90_000, refunds="next_try_at")
    shop.work("finish refunds")


def test_a_cancelled_order_whose_refund_is_refused_asks_again_till_the_money_is_back(
    shop: Shop, buyer: Person, tea: int
):
    order = buyer.bought((tea, 2))
    with shop.provider(Hooked(shop, before_refund=refuse)):
        assert buyer.do("cancel", order["id"]).status_code == 200
        finish_refunds(shop)
    assert shop.captured(order["id"]) == [20]
    finish_refunds(shop)
    assert shop.captured(order["id"]) == [0]
    assert buyer.see(order["id"])["payment"]["status"] == "refunded"
    assert shop.event_types(order["id"])[2:] == ["order.cancelled", "order.refunded"]


def test_a_cancel_beside_a_refund_that_is_refused_later_gives_all_back(
    shop: Shop, buyer: Person, admin: Person, tea: int
):
    order = buyer.bought((tea, 2))
    with shop.provider(Hooked(shop, before_refund=lambda _: Repayment("processing"))):
        assert refund(admin, order["id"], "20.00").status_code == 202
        assert buyer.do("cancel", order["id"]).status_code == 200
    with shop.provider(Hooked(shop, before_refund=refuse)):
        shop.age(60, refunds="next_try_at")
        shop.work("finish refunds")
    finish_refunds(shop)
    assert shop.captured(order["id"]) == [0]
    assert buyer.see(order["id"])["payment"]["status"] == "refunded"


def test_a_refund_that_is_refused_again_and_again_is_left_to_an_operator(shop: Shop, buyer: Person, tea: int):
    order = buyer.bought((tea, 2))
    with shop.provider(Hooked(shop, before_refund=refuse)):
        buyer.do("cancel", order["id"])
        for _ in range(len(ASK_AGAIN) + 2):
            finish_refunds(shop)
    refunds = shop.rows("SELECT status FROM refunds WHERE order_id = :o", o=order["id"])
    assert [row.status for row in refunds] == ["refused"] * (len(ASK_AGAIN) + 1)


def test_a_new_refund_is_asked_for_before_those_that_take_days(
    shop: Shop, buyer: Person, admin: Person, tea: int
):
    asked: list[uuid.UUID] = []

    def take_days(refund_id: uuid.UUID) -> Repayment:
        asked.append(refund_id)
        return Repayment("processing")

    shop.work("finish refunds")
    with shop.provider(Hooked(shop, before_refund=take_days)):
        for _ in range(3):
            refund(admin, buyer.bought((tea, 1))["id"])
        shop.rows("UPDATE refunds SET tries = 50, next_try_at = now() - interval '1 hour' WHERE tries = 0")
        refund(admin, buyer.bought((tea, 1))["id"])
        newest = asked[-1]
        shop.age(60, refunds="next_try_at")
        asked.clear()
        shop.work("finish refunds")
    assert asked[0] == newest
    assert len(asked) >= 4


def settle(shop: Shop, refund_id: Any) -> tuple[int, str]:
    """Run the operator's command."""
    done = shop.app.test_cli_runner().invoke(args=["settle-refund", str(refund_id)])
    return done.exit_code, done.output.strip()


def listed(shop: Shop, order: dict[str, Any]) -> list[str]:
    """Return what reconcile says of an order."""
    done = shop.app.test_cli_runner().invoke(args=["reconcile", "--settle", "0"])
    return [line for line in done.output.splitlines() if order["id"] in line]


class TestSettlingByHand:
    @pytest.fixture
    def refused(self, shop: Shop, buyer: Person, admin: Person, tea: int) -> tuple[dict[str, Any], uuid.UUID]:
        """Have a paid order, and a refund of all its money that was refused."""
        order = buyer.bought((tea, 2))
        with shop.provider(Hooked(shop, before_refund=refuse)):
            refund(admin, order["id"])
        [row] = shop.rows("SELECT id FROM refunds WHERE order_id = :o", o=order["id"])
        return order, row.id

    def test_counts_as_a_refund_once(self, shop: Shop, buyer: Person, refused: Any):
        order, refund_id = refused
        payment = buyer.see(order["id"])["payment"]["id"]
        assert settle(shop, refund_id) == (0, f"payment {payment}: 20.00 of 20.00 is back")
        seen = buyer.see(order["id"])
        assert (seen["status"], seen["payment"]["status"]) == ("cancelled", "refunded")
        assert shop.event_types(order["id"])[2:] == ["order.refunded", "order.cancelled"]
        assert settle(shop, refund_id) == (1, f"there is no refused refund {refund_id}")

    def test_needs_money_that_is_left(self, shop: Shop, admin: Person, refused: Any):
        order, refund_id = refused
        assert refund(admin, order["id"], "15.00").status_code == 200
        assert settle(shop, refund_id) == (1, "only 5.00 of the payment is neither back nor on its way")
        [row] = shop.rows("SELECT status FROM refunds WHERE id = :r", r=refund_id)
        assert row.status == "refused"

    def test_of_one_leaves_another_of_as_much_on_the_list(
        self, shop: Shop, buyer: Person, admin: Person, tea: int
    ):
        order = buyer.bought((tea, 2))
        with shop.provider(Hooked(shop, before_refund=refuse)):
            refund(admin, order["id"], "5.00")
            refund(admin, order["id"], "5.00")
        [first, second] = shop.rows("SELECT id FROM refunds WHERE order_id = :o ORDER BY id", o=order["id"])
        settle(shop, second.id)
        assert listed(shop, order) == [f"refund {first.id}: refused: 5.00 of order {order['id']}"]

    def test_is_for_the_last_of_those_that_asked_again(self, shop: Shop, buyer: Person, tea: int):
        order = buyer.bought((tea, 2))
        with shop.provider(Hooked(shop, before_refund=refuse)):
            buyer.do("cancel", order["id"])
            for _ in ASK_AGAIN:
                finish_refunds(shop)
        [one] = [line for line in listed(shop, order) if line.startswith("refund ")]
        settle(shop, one.split()[1].rstrip(":"))
        assert listed(shop, order) == []

    def test_ends_the_retry_that_was_not_made_yet(self, shop: Shop, buyer: Person, tea: int):
        order = buyer.bought((tea, 2))
        with shop.provider(Hooked(shop, before_refund=refuse)):
            buyer.do("cancel", order["id"])
        [first] = shop.rows(
            "SELECT id FROM refunds WHERE order_id = :o AND status = 'refused'", o=order["id"]
        )
        assert settle(shop, first.id)[0] == 0
        finish_refunds(shop)
        assert shop.captured(order["id"]) == [20]
        assert buyer.see(order["id"])["payment"]["status"] == "refunded"
        assert listed(shop, order) == []

    def test_knows_its_refunds(self, shop: Shop):
        unknown = uuid.uuid4()
        assert settle(shop, unknown) == (1, f"there is no refused refund {unknown}")


def test_a_repeated_refund_gives_back_once(shop: Shop, buyer: Person, admin: Person, tea: int):
    order = buyer.bought((tea, 2))
    first, second = (refund(admin, order["id"], "5.00", "k") for _ in range(2))
    assert (first.status_code, first.json) == (second.status_code, second.json)
    assert second.headers["Idempotent-Replayed"] == "true"
    assert shop.captured(order["id"]) == [15]


@pytest.mark.parametrize("moment", ["before_refund", "after_refund"])
def test_whoever_takes_over_goes_on_with_the_same_refund(
    shop: Shop, buyer: Person, admin: Person, tea: int, moment: str
):
    order = buyer.bought((tea, 2))
    others: list[Any] = []

    def sleep(_refund_id: uuid.UUID) -> None:
        if not others:
            others.append(None)
            shop.rows("UPDATE idempotency_keys SET claimed_at = now() - interval '16 s'")
            others[0] = refund(admin, order["id"], "5.00", "k")

    with shop.provider(Hooked(shop, **{moment: sleep})):
        late = refund(admin, order["id"], "5.00", "k")
    assert (late.status_code, others[0].status_code) == (200, 200)
    assert late.json == others[0].json
    assert shop.captured(order["id"]) == [15]
    assert shop.event_types(order["id"])[2:] == ["order.refunded"]
