"""Every step of a reservation: a process dies there, loses an answer, or sleeps while its rivals act."""

from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from sqlalchemy.exc import OperationalError

from chassis.inbox import receive
from product_service.consumers import ORDER_EVENTS
from product_service.models import db
from tests.interleaving import Process
from tests.product.shop import Shop, new_id
from tests.product.test_consumers import event_of

Act = Callable[["Stock"], object]
MOST_STEPS = 20


class Stock:
    """Ten pieces, of which one order takes three; its events come again with the same ids."""

    def __init__(self, shop: Shop) -> None:
        self.shop, self.order = shop, new_id()
        self.product = shop.add(stock=10)["id"]
        self.events = {kind: event_of(kind, self.order) for kind in ("order.paid", "order.cancelled")}

    def hear(self, kind: str) -> None:
        """Deliver an event as the consumer takes it."""
        with self.shop.app.app_context():
            receive(db.session, ORDER_EVENTS.queue, self.events[kind], ORDER_EVENTS.handlers[kind])


def reserve(stock: Stock) -> None:
    """Take the pieces."""
    assert stock.shop.reserve({stock.product: 3}, stock.order).status_code in (200, 201, 409, 503)


def release(stock: Stock) -> None:
    """Give the pieces back."""
    assert stock.shop.release(stock.order).status_code in (204, 503)


def hear_paid(stock: Stock) -> None:
    """Hear that the order is paid."""
    stock.hear("order.paid")


def hear_cancelled(stock: Stock) -> None:
    """Hear that the order is cancelled."""
    stock.hear("order.cancelled")


def reserve_and_hear_paid(stock: Stock) -> None:
    """Take the pieces and hear at once that they are paid."""
    reserve(stock)
    hear_paid(stock)


# What is done, and what the order has in the end when that is done again after a stop.
WAYS: dict[str, tuple[Act, str]] = {
    "reserve": (reserve, "held"),
    "release": (release, "released"),
    "hear_paid": (hear_paid, "sold"),
    "hear_cancelled": (hear_cancelled, "released"),
}
RIVALS: list[Act] = [reserve, release, hear_cancelled, reserve_and_hear_paid]


def steps(shop: Shop, act: Act) -> Iterator[tuple[Stock, Process]]:
    """Make a stock, and a process that stops one step later, until the way has no further step."""
    with shop.app.app_context():
        engine = db.engine
    for step in range(MOST_STEPS):
        stock, process = Stock(shop), Process(engine, stop_at=step)
        if act is not reserve:
            reserve(stock)
        yield stock, process
        if process.stopped_at is None:
            assert step > 0
            return
    raise AssertionError("the way has no end")


def suffer(act: Callable[[], object]) -> None:
    """Do something whose connection may break; a consumer takes the event again then."""
    with suppress(OperationalError):
        act()


def check(stock: Stock, *states: str) -> None:
    """Check that the order is in one of these states and the stock agrees with it."""
    [row] = stock.shop.sql("SELECT status FROM reservations WHERE order_id = :id", id=stock.order)
    assert row.status in states
    assert stock.shop.product(stock.product)["stock"] == (10 if row.status == "released" else 7)


@pytest.mark.parametrize("name", WAYS)
def test_a_process_may_die_at_every_step(shop: Shop, name: str):
    act, state = WAYS[name]
    for stock, process in steps(shop, act):
        process.dies(lambda stock=stock: act(stock))
        act(stock)
        check(stock, state)
    shop.assert_ledger_adds_up()


@pytest.mark.parametrize("name", WAYS)
def test_an_answer_may_be_lost_at_every_step(shop: Shop, name: str):
    act, state = WAYS[name]
    for stock, process in steps(shop, act):
        suffer(lambda stock=stock, process=process: process.loses_an_answer(lambda: act(stock)))
        act(stock)
        check(stock, state)
    shop.assert_ledger_adds_up()


@pytest.mark.parametrize("rival", RIVALS)
@pytest.mark.parametrize("name", WAYS)
def test_a_process_may_sleep_at_every_step_while_rivals_act(shop: Shop, name: str, rival: Act):
    act, state = WAYS[name]
    gives_back = "released" if rival in (release, hear_cancelled) else state
    for stock, process in steps(shop, act):
        suffer(lambda s=stock, p=process: p.sleeps(lambda: act(s), lambda: rival(s)))
        act(stock)
        if process.stopped_at is None:
            check(stock, state)
        elif state == "released" or gives_back == "released":
            check(stock, "released")
        else:
            check(stock, "held", "sold")
    shop.assert_ledger_adds_up()
