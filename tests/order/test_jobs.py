"""Expiry, sweeping and releasing: what the worker does by itself."""

import threading
import time
import uuid
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event

from chassis.db import transaction
from chassis.idempotency import Once
from order_service.services.expiry import expire_orders
from order_service.services.paying import pay_order
from tests.order.shop import Person, Shop, at_once


def make_due_orders(shop: Shop, product: int, number: int) -> None:
    """Write orders whose time is over straight into the tables."""
    shop.rows(
        "INSERT INTO orders (id, user_id, status, total_amount, currency, requested, created_at, updated_at,"
        " expires_at) SELECT gen_random_uuid(), n, 'pending', 20, 'CNY', '[]', now() - interval '1 h', now(),"
        " now() - n * interval '1 ms' FROM generate_series(1, :n) n",
        n=number,
    )
    shop.rows(
        "INSERT INTO order_items (order_id, product_id, position, sku, name, unit_price, quantity)"
        " SELECT id, :p, 1, 'SKU', 'Tea', 10, 2 FROM orders",
        p=product,
    )


class TestExpiry:
    def test_a_due_order_is_cancelled(self, shop: Shop, buyer: Person, tea: int):
        order = buyer.ordered((tea, 2))
        shop.work("expire orders")
        assert buyer.see(order["id"])["status"] == "pending"
        shop.rows("UPDATE orders SET expires_at = now() WHERE id = :o", o=order["id"])
        shop.work("expire orders")
        assert buyer.see(order["id"])["status"] == "cancelled"
        event = shop.events(order["id"])[-1]
        assert (event["type"], event["data"]["reason"]) == ("order.cancelled", "payment_timeout")
        assert event["data"]["items"] == order["items"]

    @pytest.mark.parametrize("workers", [1, 4])
    def test_10000_due_orders_are_cancelled_within_10_s_by_any_number_of_workers(
        self, own_shop: Shop, workers: int
    ):
        product, buyer = own_shop.products.add(), own_shop.person(1)
        make_due_orders(own_shop, product, 10_000)
        paid = [buyer.bought((product, 1))["id"] for _ in range(10)]
        being_paid = [buyer.ordered((product, 1))["id"] for _ in range(10)]
        for order_id in being_paid:
            buyer.pay(order_id, "tok_timeout")
        own_shop.rows("UPDATE orders SET expires_at = now() - interval '1 h'")
        started = time.monotonic()
        at_once(*[lambda: own_shop.work("expire orders")] * workers)
        assert time.monotonic() - started < 10
        counts = dict(own_shop.rows("SELECT status, count(*) FROM orders GROUP BY status"))
        assert counts == {"cancelled": 10_000, "paid": 10, "pending": 10}
        [(events, subjects)] = own_shop.rows(
            "SELECT count(*), count(DISTINCT subject) FROM events WHERE type = 'order.cancelled'"
        )
        assert (events, subjects) == (10_000, 10_000)
        assert own_shop.event_types(paid[0]) == ["order.created", "order.paid"]
        own_shop.work("settle payments")
        assert {buyer.see(order_id)["status"] for order_id in being_paid} == {"paid"}

    def test_a_batch_takes_the_same_statements_however_many_orders_it_has(self, own_shop: Shop):
        counts = []
        for number in (10, 400):
            own_shop.rows("DELETE FROM order_items")
            own_shop.rows("DELETE FROM orders")
            make_due_orders(own_shop, 1, number)
            with own_shop.statements() as sent:
                own_shop.work("expire orders")
            counts.append(len(sent))
        assert counts == [5, 5]

    def test_it_leaves_an_order_to_whoever_has_it_locked(self, own_shop: Shop):
        product = own_shop.products.add()
        buyer = own_shop.person(1)
        locked, other = buyer.ordered((product, 1)), buyer.ordered((product, 1))
        own_shop.rows("UPDATE orders SET expires_at = now()")
        with own_shop.session() as session, transaction(session) as here:
            here.connection().exec_driver_sql(f"SELECT 1 FROM orders WHERE id = '{locked['id']}' FOR UPDATE")
            started = time.monotonic()
            at_once(lambda: own_shop.work("expire orders"))
            assert time.monotonic() - started < 0.9
        assert buyer.see(locked["id"])["status"] == "pending"
        assert buyer.see(other["id"])["status"] == "cancelled"

    def test_a_payment_that_is_there_only_once_it_has_begun_to_look_is_seen(self, own_shop: Shop):
        """The snapshot of its first statement is older than the payment, its lock of the order younger."""
        buyer = own_shop.person(1)
        order = buyer.ordered((own_shop.products.add(), 1))
        own_shop.rows("UPDATE orders SET expires_at = now() + interval '500 ms'")
        checked, looking = threading.Event(), threading.Event()

        def commit_late(_session: Any) -> None:
            checked.set()
            assert looking.wait(5)
            asleep = (
                "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
            )
            while not own_shop.rows(asleep):
                time.sleep(0.01)

        def look_slowly(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
            if "SKIP LOCKED" in statement:
                looking.set()
                statement = statement.replace("WHERE", "WHERE (SELECT true FROM pg_sleep(1)) AND", 1)
            return statement, parameters

        def pay() -> None:
            with own_shop.session() as session:
                event.listen(session(), "before_commit", commit_late)
                once = Once(1, None, "", lambda *_: "")
                wish = {"user_id": 1, "order_id": UUID(order["id"]), "method": "sandbox"}
                pay_order(session, own_shop.desk, once, **wish, token="tok_timeout")

        def expire() -> None:
            assert checked.wait(5)
            time.sleep(0.5)
            with own_shop.session() as session:
                engine = session.get_bind()
                event.listen(engine, "before_cursor_execute", look_slowly, retval=True)
                try:
                    expire_orders(session)
                finally:
                    event.remove(engine, "before_cursor_execute", look_slowly)

        at_once(pay, expire)
        seen = buyer.see(order["id"])
        assert (seen["status"], seen["payment"]["status"]) == ("pending", "processing")


class TestSweeping:
    def stall(self, shop: Shop, seconds: int) -> str:
        order_id = str(uuid.uuid4())
        shop.rows(
            "INSERT INTO orders (id, user_id, status, total_amount, currency, requested, created_at,"
            " updated_at) VALUES (:o, 1, 'reserving', 0, 'CNY', '[]', now() - :s * interval '1 s', now())",
            o=order_id,
            s=seconds,
        )
        return order_id

    def status(self, shop: Shop, order_id: str) -> str:
        return shop.rows("SELECT status FROM orders WHERE id = :o", o=order_id)[0].status

    def test_an_intent_of_60_s_is_given_up_and_released(self, shop: Shop, tea: int):
        old, young = self.stall(shop, 61), self.stall(shop, 59)
        shop.products.reserve(old, [{"product_id": tea, "quantity": 2}])
        shop.work("sweep intents")
        assert (self.status(shop, old), self.status(shop, young)) == ("abandoned", "reserving")
        assert shop.products.stock(tea) == 98
        shop.work("release reservations")
        assert shop.products.stock(tea) == 100
        assert shop.events(old) == []

    def test_it_is_released_until_the_product_service_has_confirmed_it(self, own_shop: Shop):
        order_id = self.stall(own_shop, 61)
        own_shop.work("sweep intents")
        own_shop.products.before["release"] = lambda _: 500
        for _ in range(3):
            own_shop.rows("UPDATE releases SET next_try_at = now()")
            own_shop.work("release reservations")
        assert len(own_shop.products.calls) == 3
        own_shop.products.before.clear()
        own_shop.rows("UPDATE releases SET next_try_at = now()")
        own_shop.work("release reservations")
        assert own_shop.products.reservations == {order_id: "released"}
        assert own_shop.rows("SELECT * FROM releases") == []

    def test_a_product_service_that_is_away_is_not_asked_for_every_one(self, own_shop: Shop):
        for _ in range(10):
            self.stall(own_shop, 61)
        own_shop.work("sweep intents")
        own_shop.products.before["release"] = lambda _: 500
        own_shop.work("release reservations")
        assert len(own_shop.products.calls) == 1

    def test_one_that_is_refused_for_ever_does_not_hold_up_the_others(self, own_shop: Shop):
        orders = [self.stall(own_shop, seconds) for seconds in (90, 80, 70)]
        own_shop.work("sweep intents")
        own_shop.products.before["release"] = lambda order_id: 500 if order_id == orders[0] else None
        for _ in range(4):
            own_shop.age(60, releases="next_try_at")
            own_shop.work("release reservations")
        [left] = own_shop.rows("SELECT order_id FROM releases")
        assert str(left.order_id) == orders[0]

    def test_many_are_swept_and_released(self, own_shop: Shop):
        for _ in range(150):
            self.stall(own_shop, 61)
        own_shop.work("sweep intents", "release reservations")
        assert own_shop.rows("SELECT 1 FROM releases") == []
        assert len(own_shop.products.reservations) == 150


def test_webhooks_are_forgotten_after_30_days(shop: Shop):
    kind = uuid.uuid4().hex
    shop.rows(
        "INSERT INTO webhooks (method, id, received_at) SELECT :k, n::text, now() - n * interval '1 day'"
        " FROM unnest(array[0, 29, 31, 400]) n",
        k=kind,
    )
    shop.work("purge webhooks")
    left = shop.rows("SELECT id FROM webhooks WHERE method = :k ORDER BY received_at", k=kind)
    assert [row.id for row in left] == ["29", "0"]


def test_intents_that_were_given_up_are_forgotten_after_30_days_unless_they_owe_a_release(own_shop: Shop):
    shop, tea = own_shop, own_shop.products.add(stock=1)
    buyer = shop.person(1)
    kept = buyer.ordered((tea, 1))["id"]
    for _ in range(3):
        assert buyer.order((tea, 1)).status_code == 409
    abandoned = [order_id for order_id, status in shop.orders_of(1) if status == "abandoned"]
    assert len(abandoned) == 3
    shop.work("release reservations")
    shop.age(31 * 86400, orders="created_at")
    shop.rows("UPDATE orders SET created_at = now() WHERE id = :o", o=abandoned[0])
    shop.rows("INSERT INTO releases VALUES (:o, 0, now())", o=abandoned[1])
    shop.work("purge abandoned intents")
    assert sorted(order_id for order_id, _ in shop.orders_of(1)) == sorted([kept, *abandoned[:2]])


def test_the_worker_runs_every_job(own_shop: Shop):
    jobs = {job.name for job in own_shop.app.extensions["worker"].jobs}
    own_shop.work(*jobs)
    assert jobs == {
        "sweep intents",
        "release reservations",
        "expire orders",
        "settle payments",
        "finish refunds",
        "reconcile",
        "purge idempotency keys",
        "purge webhooks",
        "purge abandoned intents",
    }
