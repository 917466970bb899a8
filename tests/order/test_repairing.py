"""`flask reconcile --repair`: what is safe is done, once, and leaves no drift; the rest is said."""

from typing import Any
from uuid import uuid4

import pytest

from chassis.errors import DependencyAway
from order_service import commands
from order_service.payments.base import Repayment
from order_service.services import reconciling, repairing
from order_service.services.refunds import ASK_AGAIN
from tests.order.shop import Hooked, Shop
from tests.order.test_reconciling import busy, deliver, run

__all__ = ["busy"]


def mend(shop: Shop) -> list[str]:
    """Repair, and return what was said of it; the second time there is nothing to do."""
    status, lines = run(shop, "--repair")
    assert (status, lines[-1]) == (0, "drift 0"), lines
    assert run(shop, "--repair") == (0, ["drift 0"])
    return [line.strip() for line in lines if line.startswith("  ")]


@pytest.fixture
def lively(busy, monkeypatch):
    """A shop whose worker and whose neighbours go on while the command waits."""
    shop, orders, tea = busy
    monkeypatch.setattr(reconciling.time, "sleep", lambda _: deliver(shop))
    return shop, orders, tea


def test_what_is_kept_for_a_cancelled_order_is_given_back(lively):
    shop, orders, tea = lively
    shop.rows(
        "UPDATE orders SET status = 'cancelled', payment_time = NULL WHERE id = :o", o=orders["pending"]
    )
    shop.age(10, orders="updated_at")
    before = shop.products.stock(tea)
    assert mend(shop) == [f"repaired: released 1 of order {orders['pending']}, which is cancelled"]
    assert shop.products.stock(tea) == before + 1


def test_what_is_sold_to_a_cancelled_order_is_given_back(lively):
    shop, orders, tea = lively
    shop.products.reservations[orders["cancelled"]] = [shop.products._hold(tea, 2)]
    shop.products.sell(orders["cancelled"])
    assert mend(shop) == [f"repaired: released 2 of order {orders['cancelled']}, which is cancelled"]


def test_what_is_held_for_nobody_is_given_back(lively):
    shop, _, tea = lively
    stranger = str(uuid4())
    assert shop.products.reserve(stranger, [{"product_id": tea, "quantity": 3}])[0] == 201
    assert mend(shop) == [f"repaired: released 3 of order {stranger}, which is unknown"]


def test_a_paid_order_whose_event_was_lost_is_counted_as_sold(lively):
    shop, orders, _ = lively
    shop.products.sold.discard(orders["paid"])
    assert mend(shop) == [f"repaired: counted 2 of order {orders['paid']}, which is paid, as sold"]


def test_an_order_that_is_placed_meanwhile_is_left_alone(lively):
    shop, _, tea = lively
    shop.products.reserve(str(uuid4()), [{"product_id": tea, "quantity": 3}])
    placed = []

    def place_after(_: str) -> None:
        if not placed:
            placed.append(shop.person(1).ordered((tea, 1))["id"])

    shop.products.after["kept"] = place_after
    _, lines = run(shop, "--repair")
    assert placed
    assert not [line for line in lines if "by hand" in line], lines


def test_many_reservations_are_compared_in_pages(lively, monkeypatch):
    shop, _, tea = lively
    monkeypatch.setattr("order_service.services.repairing.KEPT_AT_ONCE", 2)
    for _ in range(5):
        shop.products.reserve(str(uuid4()), [{"product_id": tea, "quantity": 1}])
    assert len(mend(shop)) == 5


def test_no_statement_reads_more_lines_than_a_page_has(busy, monkeypatch):
    shop, orders, tea = busy
    monkeypatch.setattr("order_service.services.repairing.KEPT_AT_ONCE", 1)
    lost = orders["pending"]
    del shop.products.reservations[lost]
    shop.products.products[tea].stock += 1
    shop.age(10, orders="updated_at")
    pages: list[int] = []
    read = repairing._read_orders

    def count(*arguments: Any, **options: Any) -> Any:
        found = read(*arguments, **options)
        pages.append(len(found))
        return found

    monkeypatch.setattr(repairing, "_read_orders", count)
    _, lines = run(shop, "--repair")
    [told] = [line for line in lines if "by hand" in line]
    assert told.strip() == (
        f"by hand: nothing of product {tea} is kept for order {lost}, which is pending:"
        " cancel it, or book its pieces"
    )
    assert sum(pages) == 5
    assert max(pages) <= 2


def test_money_of_a_cancelled_order_goes_back(lively):
    shop, orders, _ = lively
    order = orders["paid"]
    shop.rows("UPDATE orders SET status = 'cancelled' WHERE id = :o", o=order)
    shop.products.release(order)
    shop.age(10, orders="updated_at")
    [payment] = shop.rows("SELECT id FROM payments WHERE order_id = :o", o=order)
    assert mend(shop) == [f"repaired: began the refund of 20.00 of payment {payment.id}"]
    shop.work("finish refunds")
    assert sum(shop.captured(order)) == 0
    assert run(shop) == (0, ["drift 0"])


def test_of_two_payments_one_goes_back(lively):
    shop, orders, _ = lively
    shop.rows(
        "WITH twice AS (INSERT INTO payments SELECT (jsonb_populate_record(payments, jsonb_build_object("
        "'id', :new, 'late', true))).* FROM payments WHERE order_id = :o RETURNING id)"
        " INSERT INTO sandbox_charges SELECT (jsonb_populate_record(sandbox_charges, jsonb_build_object("
        "'key', :new))).* FROM sandbox_charges WHERE key IN (SELECT id FROM payments WHERE order_id = :o)",
        o=orders["paid"],
        new=str(uuid4()),
    )
    assert len(shop.captured(orders["paid"])) == 2
    [step] = mend(shop)
    assert step.startswith("repaired: began the refund of 20.00 of payment ")
    shop.work("finish refunds")
    assert sorted(shop.captured(orders["paid"])) == [0, 20]
    assert shop.person(1).see(orders["paid"])["status"] == "paid"


def test_a_lost_mail_is_made_up_for_by_its_event_also_when_that_was_handled(lively):
    shop, orders, _ = lively
    events = shop.rows(
        "SELECT id, type FROM events WHERE subject = :o ORDER BY sequence", o=orders["shipped"]
    )
    lost = [str(row.id) for row in events if row.type in ("order.paid", "order.shipped")]
    shop.products.mailed -= set(lost)
    # One was never handled, of the other only the mail is gone.
    shop.products.handled.discard(lost[0])
    assert mend(shop) == ["repaired: the event is sent again"] * 2
    deliver(shop)
    assert shop.products.mailed >= set(lost)
    assert len(shop.event_types(orders["shipped"])) == len(events)


def test_what_needs_judgement_is_left_with_a_word_what_to_do(busy):
    shop, orders, tea = busy
    shop.products.products[tea].stock += 5
    shop.rows("UPDATE payments SET status = 'failed' WHERE order_id = :o", o=orders["shipped"])
    shop.rows("UPDATE refunds SET status = 'refused' WHERE order_id = :o", o=orders["part"])
    shop.rows(
        "INSERT INTO payment_anomalies"
        " (payment_id, method, reason, source, told, amount, currency, created_at)"
        " VALUES (:p, 'sandbox', 'unknown_payment', 'books', 'captured', 7, 'CNY', now())",
        p=str(uuid4()),
    )
    stranger = str(uuid4())
    shop.products.reserve(stranger, [{"product_id": tea, "quantity": 3}])
    shop.products.sell(stranger)
    del shop.products.reservations[orders["pending"]]
    stock = shop.products.stock(tea)
    status, lines = run(shop, "--repair")
    told = "\n".join(lines)
    assert (status, lines[-1]) == (1, "drift 6")
    for expected in (
        "by hand: find the change that is in no movement, and set products.stock to what the ledger",
        f"by hand: 3 are sold for order {stranger}, which is unknown: look for its payment",
        f"by hand: nothing of product {tea} is kept for order {orders['pending']}, which is pending",
        "by hand: ask the payment provider for its payments",
        "by hand: settle it with the payment provider, then delete its row of payment_anomalies",
        "by hand: refund as much again (unless cancelled), or pay by another way",
    ):
        assert expected in told
    assert "repaired" not in told
    assert shop.products.stock(tea) == stock
    assert lines.count("after the repair:") == 1


def test_money_that_the_provider_refuses_to_give_back_is_not_asked_for_for_ever(lively):
    shop, orders, _ = lively
    shop.rows("UPDATE orders SET status = 'cancelled' WHERE id = :o", o=orders["paid"])
    shop.products.release(orders["paid"])
    shop.age(10, orders="updated_at")
    assert len(mend(shop)) == 1
    with shop.provider(Hooked(shop, before_refund=lambda _: Repayment("refused", "no"))):
        for _ in range(len(ASK_AGAIN) + 1):
            shop.age(90_000, refunds="next_try_at")
            shop.work("finish refunds")
    status, lines = run(shop, "--repair")
    assert status == 1
    assert any("refuses to give payment" in line for line in lines)
    refused = shop.rows("SELECT status FROM refunds WHERE order_id = :o", o=orders["paid"])
    assert [row.status for row in refused] == ["refused"] * (len(ASK_AGAIN) + 1)


def test_a_neighbour_that_goes_away_ends_the_repair_with_status_2(busy):
    shop, orders, _ = busy
    shop.products.sold.discard(orders["paid"])
    shop.products.before["sell"] = lambda _: 500
    status, lines = run(shop, "--repair")
    assert (status, lines[-1]) == (2, "the product service is away")
    shop.products.before.clear()
    assert len(mend(shop)) == 1


def test_a_repair_that_is_broken_off_says_that_what_it_told_was_done(busy, monkeypatch):
    shop, _, tea = busy
    shop.products.products[tea].stock += 1

    def stop_amid(_session, _desk, found):
        yield found[0], ["repaired: this one"]
        raise DependencyAway("database")

    monkeypatch.setattr(commands, "repair", stop_amid)
    status, lines = run(shop, "--repair")
    assert (status, lines[1].strip()) == (2, "repaired: this one")
    assert lines[2:] == [
        "broken off; what is said above was done, run it again for the rest",
        "the database is away",
    ]
