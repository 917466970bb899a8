"""One key, one order: replayed, taken over, and continued after a crash at any step."""

import dataclasses
import threading
import uuid
from typing import Any

import pytest
from sqlalchemy import event

from chassis.db import transaction
from chassis.idempotency import ClaimLost, Once, fingerprint
from order_service.clients import ProductService
from order_service.schemas import OrderIn, OrderView
from order_service.services.placing import Draft, place_order
from tests.order.shop import Person, Shop, at_once, refusal


class Crash(BaseException):
    """The process is gone: nothing after this runs."""


class CrashingProducts(ProductService):
    """The product service, as seen by a process that dies before or after it calls."""

    def __init__(self, real: ProductService, before: bool) -> None:
        self.real, self.before = real, before

    def reserve(self, *args: Any) -> Any:
        """Reserve, and die."""
        if not self.before:
            self.real.reserve(*args)
        raise Crash


def order_and_crash(shop: Shop, buyer: Person, body: dict[str, Any], crash: str) -> None:
    """Do what the route does under the key "k", in a process that dies at the latest before it answers."""
    parsed = OrderIn.model_validate(body)
    print_ = fingerprint("POST", "/api/v1/orders", parsed.model_dump_json().encode())
    once = Once(
        buyer.user_id, "k", print_, lambda _, order: OrderView.model_validate(order).model_dump_json()
    )
    desk, commit = shop.desk, 0
    match crash.split():
        case ["commit", number]:
            commit = int(number)
        case [moment, "reserving"]:
            desk = dataclasses.replace(desk, products=CrashingProducts(desk.products, moment == "before"))
    with shop.session() as session:
        die_at_commit(session(), commit)
        with pytest.raises(Crash):
            raise Crash(place_order(session, desk, once, Draft(buyer.user_id, parsed.lines())))


def die_at_commit(session: Any, number: int) -> None:
    """Let the process die before the commit of that number."""
    count = iter(range(1, 100))

    def die(_session: Any) -> None:
        if next(count) == number:
            raise Crash

    event.listen(session, "before_commit", die)


def outwait_the_claim(shop: Shop) -> None:
    """Let 16 s pass for every claim."""
    shop.rows("UPDATE idempotency_keys SET claimed_at = now() - interval '16 s'")


CRASHES = ["commit 1", "before reserving", "after reserving", "commit 2", "before answering"]


@pytest.mark.parametrize("source", ["items", "cart"])
@pytest.mark.parametrize("crash", CRASHES)
def test_whoever_takes_over_after_a_crash_ends_with_one_order(
    shop: Shop, buyer: Person, tea: int, crash: str, source: str
):
    buyer.put_in_cart(tea, 2)
    body = {"items": [{"product_id": tea, "quantity": 2}]} if source == "items" else {}
    order_and_crash(shop, buyer, body, crash)
    begun = [order_id for order_id, _ in shop.orders_of(buyer.user_id)]
    outwait_the_claim(shop)

    answer = buyer.send("POST", "/orders", body, "k")

    assert answer.status_code == 201, answer.json
    assert shop.orders_of(buyer.user_id) == [(answer.json["id"], "pending")]
    assert begun in ([], [answer.json["id"]])
    assert shop.products.stock(tea) == 98
    assert shop.event_types(answer.json["id"]) == ["order.created"]
    assert len(buyer.get("/cart").json["items"]) == (1 if source == "items" else 0)


def test_a_claim_younger_than_15_s_is_not_taken_over(shop: Shop, buyer: Person, tea: int):
    body = {"items": [{"product_id": tea, "quantity": 2}]}
    order_and_crash(shop, buyer, body, "before reserving")
    answer = buyer.send("POST", "/orders", body, "k")
    assert refusal(answer) == (409, "idempotency_in_progress")
    assert answer.headers["Retry-After"]


def test_the_taken_over_cart_is_ordered_as_it_was_when_the_first_began(shop: Shop, buyer: Person, tea: int):
    buyer.put_in_cart(tea, 2)
    order_and_crash(shop, buyer, {}, "before reserving")
    buyer.put_in_cart(tea, 7)
    outwait_the_claim(shop)
    order = buyer.send("POST", "/orders", {}, "k").json
    assert [item["quantity"] for item in order["items"]] == [2]
    assert [item["quantity"] for item in buyer.get("/cart").json["items"]] == [7]


def test_who_wakes_up_after_the_takeover_answers_what_the_other_did(shop: Shop, buyer: Person, tea: int):
    woken, paused = threading.Event(), threading.Event()

    def pause(_order_id: str) -> None:
        shop.products.after.clear()
        paused.set()
        assert woken.wait(10)

    def take_over() -> Any:
        assert paused.wait(10)
        outwait_the_claim(shop)
        answer = buyer.order((tea, 2), key="k")
        woken.set()
        return answer

    shop.products.after["reserve"] = pause
    late, other = at_once(lambda: buyer.order((tea, 2), key="k"), take_over)
    assert (late.status_code, other.status_code) == (201, 201)
    assert late.json == other.json
    assert late.headers["Idempotent-Replayed"] == "true"
    assert shop.orders_of(buyer.user_id) == [(other.json["id"], "pending")]
    assert shop.products.stock(tea) == 98
    assert shop.event_types(other.json["id"]) == ["order.created"]


def test_who_wakes_up_and_fails_does_not_undo_what_another_goes_on_with(shop: Shop, buyer: Person, tea: int):
    """The first gets no answer from the product service, but has lost its claim by then."""

    def fail_late(_order_id: str) -> int:
        shop.products.after.clear()
        shop.rows("UPDATE idempotency_keys SET owner = :other", other=str(uuid.uuid4()))
        return 500

    shop.products.after["reserve"] = fail_late
    assert refusal(buyer.order((tea, 2), key="k")) == (409, "idempotency_in_progress")
    assert [status for _, status in shop.orders_of(buyer.user_id)] == ["reserving"]


def test_who_was_swept_meanwhile_confirms_nothing_and_may_try_again(shop: Shop, buyer: Person, tea: int):
    def sweep(_order_id: str) -> None:
        shop.products.after.clear()
        shop.age(61, orders="created_at")
        shop.work("sweep intents", "release reservations")

    shop.products.after["reserve"] = sweep
    assert refusal(buyer.order((tea, 2), key="k")) == (503, "service_unavailable")
    assert shop.products.stock(tea) == 100
    assert buyer.order((tea, 2), key="k").status_code == 201
    assert [status for _, status in shop.orders_of(buyer.user_id)] == ["abandoned", "pending"]
    assert shop.products.stock(tea) == 98


def test_a_swept_and_released_order_can_not_be_reserved_by_who_takes_over(
    shop: Shop, buyer: Person, tea: int
):
    body = {"items": [{"product_id": tea, "quantity": 2}]}
    order_and_crash(shop, buyer, body, "before reserving")
    shop.age(61, orders="created_at")
    shop.work("sweep intents", "release reservations")
    outwait_the_claim(shop)
    assert refusal(buyer.send("POST", "/orders", body, "k")) == (503, "service_unavailable")
    assert buyer.send("POST", "/orders", body, "k").status_code == 201
    assert shop.products.stock(tea) == 98


def test_a_repeated_request_gets_the_same_answer(shop: Shop, buyer: Person, tea: int):
    first, second = buyer.order((tea, 2), key="k"), buyer.order((tea, 2), key="k")
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json == second.json
    assert first.headers["Location"] == second.headers["Location"]
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    assert shop.products.stock(tea) == 98


def test_a_refusal_is_repeated_too(shop: Shop, buyer: Person, tea: int):
    shop.products.products[tea].stock = 1
    first = buyer.order((tea, 2), key="k")
    shop.products.products[tea].stock = 100
    second = buyer.order((tea, 2), key="k")
    assert refusal(first) == refusal(second) == (409, "insufficient_stock")
    assert first.json == second.json
    assert second.headers["Idempotent-Replayed"] == "true"
    assert buyer.order((tea, 2), key="other").status_code == 201


def test_the_empty_cart_is_remembered(buyer: Person, tea: int):
    assert refusal(buyer.order(key="k")) == (409, "cart_empty")
    buyer.put_in_cart(tea)
    assert refusal(buyer.order(key="k")) == (409, "cart_empty")


def test_bad_input_leaves_the_key_free(buyer: Person, tea: int):
    assert refusal(buyer.order((tea, 0), key="k"))[0] == 422
    assert buyer.order((tea, 1), key="k").status_code == 201


def test_a_key_of_another_request_is_refused(buyer: Person, tea: int):
    buyer.order((tea, 2), key="k")
    assert refusal(buyer.order((tea, 3), key="k")) == (422, "idempotency_key_reused")


def test_a_key_belongs_to_its_user(shop: Shop, buyer: Person, admin: Person, tea: int):
    mine, theirs = buyer.order((tea, 2), key="k"), admin.order((tea, 2), key="k")
    assert mine.json["id"] != theirs.json["id"]


def test_sixteen_at_once_with_one_key_make_one_order(shop: Shop, buyer: Person, tea: int):
    answers = at_once(*[lambda: buyer.order((tea, 1), key="k")] * 16)
    good = [answer for answer in answers if answer.status_code == 201]
    others = [refusal(answer) for answer in answers if answer.status_code != 201]
    assert {answer.json["id"] for answer in good} == {shop.orders_of(buyer.user_id)[0][0]}
    assert set(others) <= {(409, "idempotency_in_progress")}
    assert shop.products.stock(tea) == 99


def test_sixteen_at_once_without_a_key_make_sixteen(shop: Shop, buyer: Person, tea: int):
    answers = at_once(*[lambda: buyer.order((tea, 1))] * 16)
    assert len({answer.json["id"] for answer in answers}) == 16
    assert shop.products.stock(tea) == 84


def test_who_lost_a_claim_can_not_drop_it(shop: Shop, buyer: Person):
    once = Once(buyer.user_id, "k", "f" * 64, lambda *_: "")
    with shop.session() as session:
        with transaction(session) as here:
            once.claim(here)
        shop.rows("UPDATE idempotency_keys SET owner = gen_random_uuid() WHERE user_id = :u", u=buyer.user_id)
        with pytest.raises(ClaimLost), transaction(session) as here:
            once.drop(here)


@pytest.mark.parametrize("path", ["pay", "refund"])
def test_a_used_key_is_refused_before_the_order_is_looked_for(shop: Shop, admin: Person, tea: int, path: str):
    admin.order((tea, 1), key="k")
    unknown = f"/orders/{uuid.uuid4()}/{path}"
    body = {"method": "sandbox"} if path == "pay" else {"reason": "why"}
    assert refusal(admin.send("POST", unknown, body, key="k")) == (422, "idempotency_key_reused")


def test_a_used_key_is_refused_before_the_method_is_looked_for(shop: Shop, buyer: Person, tea: int):
    order_id = buyer.order((tea, 1), key="k").json["id"]
    answer = buyer.send("POST", f"/orders/{order_id}/pay", {"method": "nothing"}, key="k")
    assert refusal(answer) == (422, "idempotency_key_reused")
