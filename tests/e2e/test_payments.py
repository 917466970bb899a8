"""Paying: once, whatever the provider and the network do."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.client import eventually
from tests.e2e.conftest import word


def pay(buyer, order, token=None, **kwargs):
    """Try to pay an order."""
    body = {"method": "sandbox"} | ({"token": token} if token else {})
    return buyer.post(f"/orders/{order['id']}/pay", body, **kwargs)


def types_of(history):
    """Name the events of a history."""
    return [entry["type"] for entry in history["items"]]


def test_the_methods_are_public(anyone):
    methods = anyone.get("/payments/methods").expect(200)
    assert methods["next_cursor"] is None
    assert "sandbox" in [method["method"] for method in methods["items"]]
    assert all(method["name"] for method in methods["items"])


@pytest.mark.parametrize("token", [None, "tok_success"])
def test_a_payment_that_succeeds_makes_the_order_paid(shopper, new_order, token):
    order = new_order(shopper)
    paid = pay(shopper, order, token).expect(200)
    assert paid["status"] == "paid"
    assert paid["payment_time"] >= order["created_at"][:19]
    payment = paid["payment"]
    assert (payment["method"], payment["status"]) == ("sandbox", "captured")
    assert (payment["amount"], payment["refunded_amount"]) == (order["total_amount"], "0.00")
    assert shopper.get(f"/orders/{order['id']}").expect(200) == paid


def test_a_declined_order_can_be_paid_again(shopper, new_order):
    order = new_order(shopper)
    pay(shopper, order, "tok_decline").refused(402, "payment_declined")
    declined = shopper.get(f"/orders/{order['id']}").expect(200)
    assert (declined["status"], declined["payment_time"]) == ("pending", None)
    assert declined["payment"] is None or declined["payment"]["status"] == "declined"
    assert pay(shopper, order).expect(200)["payment"]["status"] == "captured"


def test_a_paid_order_is_not_paid_again(shopper, new_paid_order):
    order = new_paid_order(shopper)
    pay(shopper, order).refused(409, "order_not_payable")


def test_a_cancelled_order_is_not_paid(shopper, new_order):
    order = new_order(shopper)
    shopper.post(f"/orders/{order['id']}/cancel").expect(200)
    pay(shopper, order).refused(409, "order_not_payable")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"method": "gold"}, "method"),
        ({"method": 5}, "method"),
        ({}, "method"),
        ({"method": "sandbox", "token": 5}, "token"),
        ({"method": "sandbox", "amount": "0.01"}, "amount"),
    ],
)
def test_names_the_field_that_is_wrong(shopper, new_order, body, field):
    order = new_order(shopper)
    shopper.post(f"/orders/{order['id']}/pay", body).invalid(field)
    assert shopper.get(f"/orders/{order['id']}").expect(200)["status"] == "pending"


def test_paying_several_times_at_once_takes_the_money_once(shopper, new_order):
    order = new_order(shopper)
    with ThreadPoolExecutor(5) as pool:
        replies = list(pool.map(lambda _: pay(shopper, order), range(5)))
    assert [reply.status for reply in replies].count(200) == 1
    refused = {reply.code for reply in replies if reply.status != 200}
    assert refused <= {"payment_in_progress", "order_not_payable"}
    assert types_of(shopper.get(f"/orders/{order['id']}/history").expect(200)).count("order.paid") == 1


def test_an_idempotency_key_gives_the_same_answer_again(shopper, new_order):
    order, key = new_order(shopper), {"Idempotency-Key": word()}
    first = pay(shopper, order, headers=key).expect(200)
    again = pay(shopper, order, headers=key)
    assert again.expect(200) == first
    assert again.headers["Idempotent-Replayed"] == "true"


def test_an_idempotency_key_remembers_that_the_payment_was_declined(shopper, new_order):
    order, key = new_order(shopper), {"Idempotency-Key": word()}
    pay(shopper, order, "tok_decline", headers=key).refused(402, "payment_declined")
    again = pay(shopper, order, "tok_decline", headers=key)
    again.refused(402, "payment_declined")
    assert again.headers["Idempotent-Replayed"] == "true"
    pay(shopper, order, headers={"Idempotency-Key": word()}).expect(200)


def test_a_provider_that_does_not_answer_is_asked_until_it_is_known_and_paid_once(shopper, new_order):
    order = new_order(shopper)
    delayed = pay(shopper, order, "tok_timeout")
    assert delayed.seconds < 6.5
    waiting = delayed.expect(202)
    assert (waiting["status"], waiting["payment"]["status"]) == ("pending", "processing")
    under_way = pay(shopper, order)
    under_way.refused(409, "payment_in_progress")
    assert int(under_way.headers["Retry-After"]) >= 1

    settled = eventually(
        lambda: seen if (seen := shopper.get(f"/orders/{order['id']}").body)["status"] == "paid" else None,
        seconds=90,
        every=1,
    )
    assert settled, shopper.get(f"/orders/{order['id']}").body
    assert settled["payment"]["id"] == waiting["payment"]["id"]
    assert settled["payment"]["status"] == "captured"
    assert types_of(shopper.get(f"/orders/{order['id']}/history").expect(200)).count("order.paid") == 1
    pay(shopper, order).refused(409, "order_not_payable")
