"""Races of whole processes: one that holds a key and sleeps, and carts that cross."""

import contextlib
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.client import Client, eventually
from tests.e2e.conftest import word

SLEEPS = 20
BUYERS = 8
# Each of the crowd's customers orders so often at once, for 400 passwords would take minutes to hash.
AT_ONCE, CUSTOMERS = 400, 20


@pytest.mark.thorough
def test_a_key_whose_holder_sleeps_for_20_s_makes_one_order(running_suite, customer, new_product, stock_of):
    """Another process takes the claim over; who wakes up answers the same, and every retry too."""
    product = new_product(stock=10)
    body, key = {"items": [{"product_id": product["id"], "quantity": 2}]}, {"Idempotency-Key": word()}

    def send(url=running_suite.service_urls["order-service"]):
        return Client(url, customer.token).post("/orders", body, headers=key)

    with contextlib.ExitStack() as stack:
        beside = running_suite.beside
        other = stack.enter_context(beside("order-service")) if beside else None
        pool = stack.enter_context(ThreadPoolExecutor(1))
        with running_suite.silent("product-service"):
            # It waits for its stock, so its claim and its intent are there.
            first = pool.submit(send)
            time.sleep(1)
            running_suite.pause("order-service")
        asleep = time.monotonic()
        try:
            taken_over = other and eventually(lambda: created(send(other)), seconds=SLEEPS)
            assert not other or taken_over
            time.sleep(max(0.0, SLEEPS - (time.monotonic() - asleep)))
        finally:
            running_suite.resume("order-service")
        # Nginx does not wait for 20 s, so the first one's answer is unknown, and asked for again.
        assert first.result().status in (201, 504)
        order = eventually(lambda: created(send()), seconds=30)
    assert order
    assert taken_over in (None, order)
    assert [one["id"] for one in customer.all("/orders")] == [order["id"]]
    assert stock_of(product["id"]) == 8


def created(reply):
    """Return the order of a 201; anything else says that the key is busy or its holder asleep."""
    if reply.status == 201:
        return reply.body
    assert reply.status in (503, 504) or reply.code == "idempotency_in_progress", reply.raw
    return None


def test_carts_that_cross_each_other_are_all_ordered(new_customer, new_product, stock_of):
    products = [new_product(stock=1000)["id"] for _ in range(3)]
    buyers = [new_customer() for _ in range(BUYERS)]

    def fill_and_order(number):
        turn = products[number % 3 :] + products[: number % 3]
        for product in turn if number % 2 else reversed(turn):
            buyers[number].put(f"/cart/items/{product}", {"quantity": 2}).expect(200)
        return buyers[number].post("/orders", {}).status

    with ThreadPoolExecutor(BUYERS) as pool:
        for _ in range(3):
            assert Counter(pool.map(fill_and_order, range(BUYERS))) == {201: BUYERS}
    assert [stock_of(product) for product in products] == [1000 - 3 * 2 * BUYERS] * 3


def test_400_at_once_get_the_100_pieces_that_there_are(new_customer, new_product, stock_of):
    rare = new_product(stock=100)["id"]
    with ThreadPoolExecutor(2) as pool:
        customers = list(pool.map(lambda _: new_customer(), range(CUSTOMERS)))

    def order(number):
        body, key = {"items": [{"product_id": rare, "quantity": 1}]}, {"Idempotency-Key": word()}
        # What a busy machine leaves open is asked again, as a buyer's client does.
        for _ in range(20):
            reply = customers[number % CUSTOMERS].post("/orders", body, headers=key)
            if reply.status < 500 and reply.code != "idempotency_in_progress":
                break
            time.sleep(1)
        return reply.status, reply.code

    with ThreadPoolExecutor(AT_ONCE) as crowd:
        answers = Counter(crowd.map(order, range(AT_ONCE)))
    assert answers == {(201, None): 100, (409, "insufficient_stock"): 300}
    assert stock_of(rare) == 0
    assert sum(len(buyer.all("/orders")) for buyer in customers) == 100
