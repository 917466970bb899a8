"""The rules of orders and payments, without a database."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from order_service.errors import (
    IllegalMove,
    OrderNotCancellable,
    OrderNotCompletable,
    OrderNotPayable,
    OrderNotRefundable,
    OrderNotShippable,
    RefundExceedsPayment,
)
from order_service.models import Order, OrderItem, Payment, Refund

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
MOVES = {
    "confirm": (lambda order: order.confirm([], expires_at=NOW), {"reserving"}, IllegalMove),
    "abandon": (lambda order: order.abandon(), {"reserving"}, IllegalMove),
    "check_payable": (lambda order: order.check_payable(NOW), {"pending"}, OrderNotPayable),
    "pay": (lambda order: order.pay(NOW), {"pending"}, OrderNotPayable),
    "cancel": (lambda order: order.cancel(), {"pending", "paid"}, OrderNotCancellable),
    "ship": (lambda order: order.ship("SF", "1", NOW), {"paid"}, OrderNotShippable),
    "complete": (lambda order: order.complete(), {"shipped"}, OrderNotCompletable),
    "refund": (
        lambda order: order.refundable_payment(),
        {"paid", "shipped", "completed"},
        OrderNotRefundable,
    ),
}
STATUSES = ["reserving", "abandoned", "pending", "paid", "shipped", "completed", "cancelled"]


def payment(status: str = "captured", amount: str = "20.00") -> Payment:
    """Make a payment in that status."""
    return Payment(
        id=uuid4(),
        status=status,
        amount=Decimal(amount),
        refunded_amount=Decimal(0),
        refunding_amount=Decimal(0),
    )


def order(status: str) -> Order:
    """Make an order in that status, with a payment where it has one."""
    payments = [payment()] if status in ("paid", "shipped", "completed") else []
    return Order(status=status, payments=payments, expires_at=NOW + timedelta(seconds=1))


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("move", MOVES)
def test_each_move_is_possible_from_its_states_alone(move: str, status: str):
    make_move, possible, refused = MOVES[move]
    if status in possible:
        make_move(order(status))
    else:
        with pytest.raises(refused):
            make_move(order(status))


def test_the_sum_is_that_of_the_lines():
    items = [
        OrderItem(product_id=1, unit_price=Decimal("0.10"), quantity=3),
        OrderItem(product_id=2, unit_price=Decimal("19.90"), quantity=2),
    ]
    placed = order("reserving")
    placed.confirm(items, expires_at=NOW)
    assert placed.total_amount == Decimal("40.10")


def test_an_order_is_payable_until_its_time_is_over():
    placed = order("pending")
    placed.expires_at = NOW
    with pytest.raises(OrderNotPayable):
        placed.check_payable(NOW)


def test_the_payment_that_counts_is_the_one_with_money_else_the_latest():
    first, second = payment("declined"), payment("declined")
    placed = Order(payments=[first, second])
    assert placed.payment is second
    first.capture()
    assert placed.payment is first


@pytest.mark.parametrize("status", ["captured", "refunding", "partially_refunded", "refunded"])
def test_a_payment_is_captured_once(status: str):
    with pytest.raises(IllegalMove):
        payment(status).capture()


@pytest.mark.parametrize("status", ["captured", "declined", "failed", "refunded"])
def test_a_settled_payment_is_not_declined_failed_or_reopened(status: str):
    for move in (
        lambda one: one.decline(""),
        lambda one: one.fail(""),
        lambda one: one.require_action(None, None),
    ):
        with pytest.raises(IllegalMove):
            move(payment(status))


def test_the_status_of_a_payment_follows_its_refunds():
    one = payment()
    seen = []
    for step in (
        lambda: one.begin_refund(Decimal(5)),
        lambda: one.begin_refund(Decimal(15)),
        lambda: one.finish_refund(Decimal(5)),
        lambda: one.drop_refund(Decimal(15)),
        lambda: one.begin_refund(Decimal(15)),
        lambda: one.finish_refund(Decimal(15)),
    ):
        step()
        seen.append(one.status)
    assert seen == ["refunding", "refunding", "refunding", "partially_refunded", "refunding", "refunded"]


@pytest.mark.parametrize("amount", ["0", "-1", "20.01"])
def test_a_refund_is_more_than_nothing_and_at_most_what_is_left(amount: str):
    with pytest.raises(RefundExceedsPayment):
        payment().begin_refund(Decimal(amount))


def test_a_payment_without_money_is_not_refunded():
    with pytest.raises(IllegalMove):
        payment("processing").begin_refund(Decimal(1))


def test_a_refund_ends_once():
    one = Refund(status="processing")
    one.finish()
    with pytest.raises(IllegalMove):
        one.refuse()


@pytest.mark.parametrize(
    ("waiting", "counted", "due", "later"),
    [
        (payment("processing"), "checks", "next_check_at", [30, 60, 60]),
        (Refund(status="processing"), "tries", "next_try_at", [30, 60, 120]),
    ],
)
def test_the_pause_between_two_questions_grows(waiting: Any, counted: str, due: str, later: list[int]):
    setattr(waiting, counted, 0)
    pauses = []
    for _ in range(60):
        waiting.put_off(NOW)
        pauses.append((getattr(waiting, due) - NOW).seconds)
    assert pauses[:5] == [2, 4, 8, 15, 15]
    # For 10 minutes a provider is asked often.
    assert (pauses[39], pauses[40:43]) == (15, later)
    assert sum(pauses[:40]) == pytest.approx(600, abs=60)
    assert pauses[-1] == {"checks": 60, "tries": 3600}[counted]
