"""Many orders at once: nothing is oversold, nothing is lost, nobody waits for ever."""

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from product_service.models import db
from tests.product.shop import at_once, new_id, settled


def reserve(shop, lines, order=None):
    """Reserve for one order, with the same order id however often it takes."""
    order = order or new_id()
    return settled(lambda: shop.reserve(lines, order))


def test_four_hundred_buyers_get_a_hundred_pieces(shop):
    product = shop.add(stock=100)
    codes = Counter(at_once(lambda _: reserve(shop, {product["id"]: 1}), 400))
    assert codes == {201: 100, 409: 300}
    assert shop.product(product["id"])["stock"] == 0
    assert len(shop.sql("SELECT 1 FROM reservations")) == 100
    shop.assert_ledger_adds_up()


def test_orders_of_crossing_products_never_wait_for_each_other(shop):
    products = [shop.add(f"p{number}", stock=10_000)["id"] for number in range(6)]

    def order(number):
        chosen = random.Random(number).sample(products, 4)
        return reserve(shop, [(product, 1) for product in chosen])

    assert Counter(at_once(order, 200, threads=16)) == {201: 200}
    assert sum(shop.product(one)["stock"] for one in products) == 60_000 - 800
    shop.assert_ledger_adds_up()


def test_reserving_and_releasing_crossing_products_at_once_loses_nothing(shop):
    products = [shop.add(f"p{number}", stock=50)["id"] for number in range(4)]

    def order_and_cancel(number):
        dice, order = random.Random(number), new_id()
        taken = reserve(shop, [(p, 1) for p in dice.sample(products, 3)], order)
        return taken, settled(lambda: shop.release(order))

    results = at_once(order_and_cancel, 120, threads=16)
    assert {taken for taken, _ in results} <= {201, 409}
    assert {released for _, released in results} == {204}
    assert [shop.product(one)["stock"] for one in products] == [50] * 4
    shop.assert_ledger_adds_up()


def test_one_order_reserved_many_times_at_once_is_reserved_once(shop):
    product, order = shop.add(stock=10), new_id()
    codes = at_once(lambda _: reserve(shop, {product["id"]: 3}, order), 10, threads=10)
    assert sorted(codes) == [200] * 9 + [201]
    assert shop.product(product["id"])["stock"] == 7


def test_one_order_released_many_times_at_once_is_released_once(shop):
    product, order = shop.add(stock=10), new_id()
    shop.reserve({product["id"]: 3}, order)
    assert set(at_once(lambda _: settled(lambda: shop.release(order)), 10, threads=10)) == {204}
    assert shop.product(product["id"])["stock"] == 10
    shop.assert_ledger_adds_up()


def test_a_release_against_its_reservation_leaves_nothing_taken(shop):
    product = shop.add(stock=100)
    for _ in range(20):
        order = new_id()

        def act(number, order=order):
            if number:
                return settled(lambda: shop.release(order))
            return reserve(shop, {product["id"]: 3}, order)

        reserved, released = at_once(act, 2, threads=2)
        assert (reserved in (201, 409), released) == (True, 204)
        assert shop.product(product["id"])["stock"] == 100
    shop.assert_ledger_adds_up()


def test_archiving_against_orders_leaves_books_that_add_up(shop):
    product = shop.add(stock=100)

    def act(number):
        if number == 15:
            return settled(lambda: shop.manage("DELETE", f"/products/{product['id']}"))
        return reserve(shop, {product["id"]: 1})

    codes = Counter(at_once(act, 60, threads=8))
    assert codes[204] == 1
    assert shop.product(product["id"])["stock"] == 100 - codes[201]
    assert shop.reserve({product["id"]: 1}).status_code == 409
    shop.assert_ledger_adds_up()


def test_deliveries_between_orders_are_not_lost(shop):
    product = shop.add(stock=5)
    path = f"/products/{product['id']}/stock"

    def act(number):
        if number % 4 == 0:
            return settled(lambda: shop.manage("POST", path, {"delta": 2, "reason": "delivery"}))
        return reserve(shop, {product["id"]: 1})

    codes = Counter(at_once(act, 80, threads=16))
    assert shop.product(product["id"])["stock"] == 5 + 2 * codes[200] - codes[201]
    shop.assert_ledger_adds_up()


@pytest.mark.parametrize("acting", ["reserve", "release"])
def test_products_are_locked_by_id_whatever_the_order_of_the_lines(shop, acting):
    """Whoever waits for the first of them has none of the others, so that no two wait for each other."""
    products = [shop.add(f"p{number}", stock=10)["id"] for number in range(6)]
    order, lines = new_id(), [(product, 1) for product in reversed(products)]
    if acting == "release":
        assert shop.reserve(lines, order).status_code == 201
    with shop.app.app_context(), db.engine.connect() as other, ThreadPoolExecutor(1) as pool:
        other.execute(text("SELECT 1 FROM products WHERE id = :id FOR UPDATE"), {"id": products[0]})
        acts = {"reserve": lambda: shop.reserve(lines, order), "release": lambda: shop.release(order)}
        act = pool.submit(settled, acts[acting])
        wait_for_a_lock(shop)
        free = "SELECT id FROM products WHERE id > :id ORDER BY id FOR UPDATE SKIP LOCKED"
        assert [id_ for (id_,) in shop.sql(free, id=products[0])] == products[1:]
        other.rollback()
    assert act.result() in (201, 204)


def wait_for_a_lock(shop):
    """Wait until somebody waits for a row."""
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%products%'"
    ends = time.monotonic() + 10
    while not shop.sql(waiting) and time.monotonic() < ends:
        time.sleep(0.01)
