"""Orders' events: repeated, late and out of turn."""

import itertools
import uuid

import pytest

from chassis.events import Envelope
from chassis.inbox import receive
from product_service.consumers import ORDER_EVENTS
from product_service.models import db
from tests.contracts.event_schemas import examples
from tests.product.shop import at_once, new_id


def event_of(kind, order, sequence=1):
    """Make an order's event from the sample that its schema gives."""
    sample = examples(kind)[0]
    data = {**sample["data"], "order_id": order}
    return Envelope(
        **{**sample, "id": str(uuid.uuid4()), "subject": order, "sequence": sequence, "data": data}
    )


@pytest.fixture
def deliver(app):
    def handle(event):
        with app.app_context():
            return receive(db.session, ORDER_EVENTS.queue, event, ORDER_EVENTS.handlers[event.type])

    return handle


@pytest.fixture
def reserved(shop):
    """Return a product with 10 pieces, 3 of which an order holds."""
    product, order = shop.add(stock=10), new_id()
    assert shop.reserve({product["id"]: 3}, order).status_code == 201
    return product["id"], order


def status_of(shop, order):
    return shop.sql("SELECT status FROM reservations WHERE order_id = :id", id=order)[0][0]


def test_a_cancelled_order_gives_its_stock_back(shop, deliver, reserved):
    product, order = reserved
    assert deliver(event_of("order.cancelled", order))
    assert shop.product(product)["stock"] == 10
    assert status_of(shop, order) == "released"
    shop.assert_ledger_adds_up()


def test_an_event_delivered_again_does_nothing(shop, deliver, reserved):
    product, order = reserved
    event = event_of("order.cancelled", order)
    assert [deliver(event) for _ in range(3)] == [True, False, False]
    assert shop.product(product)["stock"] == 10


def test_an_event_delivered_many_times_at_once_acts_once(shop, deliver, reserved):
    product, order = reserved
    event = event_of("order.cancelled", order)
    assert sorted(at_once(lambda _: deliver(event), 8, threads=8)) == [False] * 7 + [True]
    assert shop.product(product)["stock"] == 10
    shop.assert_ledger_adds_up()


def test_a_cancelled_order_that_was_released_already_gives_nothing_more(shop, deliver, reserved):
    product, order = reserved
    shop.release(order)
    deliver(event_of("order.cancelled", order))
    assert shop.product(product)["stock"] == 10
    shop.assert_ledger_adds_up()


def test_a_paid_order_is_sold(shop, deliver, reserved):
    product, order = reserved
    deliver(event_of("order.paid", order))
    assert status_of(shop, order) == "sold"
    assert shop.product(product)["stock"] == 7


def test_a_paid_order_that_is_cancelled_gives_its_stock_back(shop, deliver, reserved):
    product, order = reserved
    deliver(event_of("order.paid", order, 2))
    deliver(event_of("order.cancelled", order, 3))
    assert (status_of(shop, order), shop.product(product)["stock"]) == ("released", 10)


@pytest.mark.parametrize("turns", list(itertools.permutations(["order.paid", "order.cancelled", "release"])))
def test_whatever_comes_last_a_cancelled_order_stays_released(shop, deliver, reserved, turns):
    product, order = reserved
    for turn in turns:
        if turn == "release":
            shop.release(order)
        else:
            deliver(event_of(turn, order))
    assert (status_of(shop, order), shop.product(product)["stock"]) == ("released", 10)
    shop.assert_ledger_adds_up()


def test_an_order_cancelled_before_it_reserved_never_will(shop, deliver):
    product, order = shop.add(stock=10), new_id()
    deliver(event_of("order.cancelled", order))
    assert shop.reserve({product["id"]: 3}, order).get_json()["code"] == "reservation_released"


def test_payment_of_an_order_unknown_here_changes_nothing(shop, deliver):
    order = new_id()
    deliver(event_of("order.paid", order))
    assert shop.sql("SELECT 1 FROM reservations") == []
    product = shop.add(stock=10)
    assert shop.reserve({product["id"]: 3}, order).status_code == 201


def test_an_event_without_its_order_fails_by_itself(deliver):
    event = event_of("order.cancelled", new_id())
    broken = event.model_copy(update={"data": {}})
    with pytest.raises(KeyError):
        deliver(broken)
    assert deliver(event)


def test_a_cancelled_order_takes_as_many_statements_however_many_lines_it_has(shop, deliver):
    products = [shop.add(f"p{number}", stock=5)["id"] for number in range(30)]
    counts = []
    for size in (1, 30):
        order = new_id()
        shop.reserve(dict.fromkeys(products[:size], 1), order)
        with shop.counted() as seen:
            deliver(event_of("order.cancelled", order))
        counts.append(len(seen))
    assert counts[0] == counts[1]
