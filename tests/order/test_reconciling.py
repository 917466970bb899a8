"""Drift between the books is found; the ordinary course of things is none."""

import itertools
import time
from uuid import uuid4

import pytest

from chassis.errors import DependencyAway
from order_service import create_app, make_jobs
from order_service.services import pieces, reconciling
from tests.order.shop import Shop
from tests.order.test_books import PARCEL


@pytest.fixture
def busy(own_shop: Shop) -> tuple[Shop, dict[str, str], int]:
    """A shop after an ordinary day: an order of each kind, by its kind, and the product that they are of."""
    shop, tea = own_shop, own_shop.products.add()
    buyer, admin = shop.person(1), shop.person(2, "admin")
    orders = {"pending": buyer.ordered((tea, 1))["id"]}
    orders |= {kind: buyer.bought((tea, 2))["id"] for kind in ("paid", "shipped", "part", "cancelled")}
    for kind, what, body in (
        ("shipped", "ship", PARCEL),
        ("part", "refund", {"amount": "1.00", "reason": "x"}),
        ("cancelled", "cancel", None),
    ):
        assert admin.do(what, orders[kind], body).status_code == 200
    assert buyer.order((tea, 99)).status_code == 409
    shop.work("release reservations")
    deliver(shop)
    shop.age(10, orders="updated_at")
    return shop, orders, tea


def deliver(shop: Shop) -> None:
    """Send what is unsent, and let the other services hear of it."""
    sent = shop.rows(
        "WITH sent AS (DELETE FROM outbox RETURNING sequence)"
        " SELECT id, subject, type FROM events JOIN sent USING (sequence) ORDER BY sequence"
    )
    for row in sent:
        shop.products.tell(str(row.id))
        if row.type == "order.paid":
            shop.products.sell(row.subject)
        elif row.type == "order.cancelled":
            shop.products.release(row.subject)


def run(shop: Shop, *options: str) -> tuple[int, list[str]]:
    """Run the command; return its exit status and what it printed."""
    result = shop.app.test_cli_runner().invoke(args=["reconcile", "--settle", "0", *options])
    return result.exit_code, result.output.splitlines()


def test_an_ordinary_day_leaves_no_drift(busy):
    assert run(busy[0]) == (0, ["drift 0"])


def test_every_planted_drift_is_found(busy):
    shop, orders, tea = busy
    shop.products.products[tea].stock += 5
    shop.rows("UPDATE payments SET status = 'failed' WHERE order_id = :o", o=orders["paid"])
    shop.rows(
        "UPDATE payments SET status = 'captured', refunded_amount = 0 WHERE order_id = :o",
        o=orders["cancelled"],
    )
    shop.rows("UPDATE refunds SET status = 'refused' WHERE order_id = :o", o=orders["part"])
    shop.rows(
        "INSERT INTO payments SELECT (jsonb_populate_record(payments, jsonb_build_object('id', :new))).*"
        " FROM payments WHERE order_id = :o",
        o=orders["shipped"],
        new=str(uuid4()),
    )
    shop.rows(
        "INSERT INTO payment_anomalies"
        " (payment_id, method, reason, source, told, amount, currency, created_at)"
        " VALUES (:p, 'sandbox', 'unknown_payment', 'books', 'captured', 7, 'CNY', now())",
        p=str(uuid4()),
    )
    status, lines = run(shop)
    text = "\n".join(lines)
    assert status == 1
    assert lines[-1] == "drift 6"
    for expected in (
        f"product {tea}: stock is 98, not 93 = 100 delivered + 0 returned - 1 held - 6 sold",
        f"order {orders['paid']}: paid without a captured payment",
        f"order {orders['cancelled']}: cancelled, and its money neither back nor on its way",
        f"order {orders['shipped']}: 2 captured payments not refunded",
        f"refused: 1.00 of order {orders['part']}",
        "unknown_payment: 7.00 CNY told as captured",
    ):
        assert expected in text


def test_orders_that_the_product_service_never_heard_of_are_drift(busy):
    shop, orders, tea = busy
    shop.products.sold.discard(orders["paid"])
    shop.rows("UPDATE order_items SET product_id = 77 WHERE order_id = :o", o=orders["pending"])
    assert run(shop) == (
        1,
        [
            f"product {tea}: 3 held in the product service, 0 in the orders",
            f"product {tea}: 4 sold in the product service, 6 in the orders",
            "product 77: 0 held in the product service, 1 in the orders",
            "drift 3",
        ],
    )


@pytest.mark.parametrize("how", ["reserving", "abandoned"])
def test_intents_and_unfinished_releases_are_no_drift(busy, how):
    shop, orders, _ = busy
    shop.rows("DELETE FROM order_items WHERE order_id = :o", o=orders["pending"])
    shop.rows("UPDATE orders SET status = :s WHERE id = :o", o=orders["pending"], s=how)
    if how == "abandoned":
        assert run(shop)[0] == 1
        shop.rows("INSERT INTO releases VALUES (:o, 0, now())", o=orders["pending"])
    assert run(shop) == (0, ["drift 0"])


def test_what_is_gone_at_the_second_look_is_no_drift(busy, monkeypatch):
    shop, orders, _ = busy
    shop.products.sold.discard(orders["paid"])
    monkeypatch.setattr(reconciling.time, "sleep", lambda _: shop.products.sell(orders["paid"]))
    assert run(shop) == (0, ["drift 0"])


def test_everything_is_compared_in_pages(busy, monkeypatch):
    shop, orders, _ = busy
    monkeypatch.setattr(reconciling, "PRODUCTS_AT_ONCE", 2)
    monkeypatch.setattr(pieces, "LINES_AT_ONCE", 2)
    monkeypatch.setattr(reconciling, "ORDERS_AT_ONCE", 2)
    monkeypatch.setattr(reconciling, "EVENTS_AT_ONCE", 2)
    for _ in range(4):
        shop.products.add()
    assert run(shop) == (0, ["drift 0"])
    shop.products.products[5].stock += 1
    shop.rows("DELETE FROM refunds")
    shop.rows("DELETE FROM payments WHERE order_id = :o", o=orders["part"])
    shop.products.mailed.clear()
    mails = len(shop.rows("SELECT 1 FROM events WHERE type <> 'order.completed'"))
    assert run(shop)[1][-1] == f"drift {2 + mails}"


@pytest.mark.parametrize(("call", "name"), [("books", "product service"), ("mailed", "notification service")])
def test_without_the_other_services_nothing_is_told(busy, call, name):
    shop, _, _ = busy
    shop.products.before[call] = lambda _: 500
    assert run(shop) == (2, [f"the {name} is away"])


def test_without_its_own_database_nothing_is_told(own_shop):
    settings = own_shop.app.config["SETTINGS"].model_copy(update={"db_port": 1})
    settings.__dict__.pop("database_url", None)
    done = create_app(settings).test_cli_runner().invoke(args=["reconcile"])
    assert (done.exit_code, done.output) == (2, "the database is away\n")


def test_a_mail_that_was_never_made_is_drift_unless_its_event_is_yet_to_be_sent(busy):
    shop, orders, _ = busy
    [paid] = shop.rows(
        "SELECT id, sequence FROM events WHERE type = 'order.paid' AND subject = :o", o=orders["paid"]
    )
    shop.products.mailed.discard(str(paid.id))
    assert run(shop) == (1, [f"order {orders['paid']}: no mail of order.paid", "drift 1"])
    shop.rows("INSERT INTO outbox (sequence, subject) VALUES (:s, :o)", s=paid.sequence, o=orders["paid"])
    assert run(shop) == (0, ["drift 0"])


def test_mails_of_more_than_30_days_ago_are_not_asked_for(busy):
    shop, _, _ = busy
    shop.products.mailed.clear()
    shop.age(31 * 86400, events="occurred_at")
    assert run(shop) == (0, ["drift 0"])


def test_the_worker_counts_the_drift_and_the_metric_shows_it(busy, monkeypatch):
    shop, _, tea = busy
    monkeypatch.setattr(reconciling.time, "sleep", lambda _: None)
    metric = lambda: shop.app.test_client().get("/metrics").text  # noqa: E731
    assert "\nreconcile_drift " not in metric()
    shop.work("reconcile")
    assert "\nreconcile_drift 0.0\n" in metric()
    shop.products.products[tea].stock += 1
    shop.work("reconcile")
    assert "\nreconcile_drift 1.0\n" in metric()


def test_the_worker_looks_again_within_a_minute_while_there_is_drift_and_rests_while_there_is_none(
    busy, monkeypatch
):
    shop, _, tea = busy
    monkeypatch.setattr(reconciling.time, "sleep", lambda _: None)
    [job] = [job for job in make_jobs(shop.desk) if job.name == "reconcile"]
    assert job.every_seconds <= 60

    def drift_after_a_run() -> dict[str, float]:
        with shop.session() as session:
            while job.run(session):
                pass
            return reconciling.last_drift(session)

    shop.products.products[tea].stock += 1
    assert drift_after_a_run() == {"": 1.0}
    shop.products.products[tea].stock -= 1
    assert drift_after_a_run() == {"": 0.0}
    shop.products.products[tea].stock += 1
    assert drift_after_a_run() == {"": 0.0}
    began = time.monotonic()
    monkeypatch.setattr(reconciling.time, "monotonic", lambda: began + reconciling.REST_SECONDS)
    assert drift_after_a_run() == {"": 1.0}


def test_the_longer_the_same_drift_lasts_the_later_the_worker_looks_again(busy, monkeypatch):
    shop, _, tea = busy
    now = 0.0
    monkeypatch.setattr(reconciling.time, "sleep", lambda _: None)
    monkeypatch.setattr(reconciling.time, "monotonic", lambda: now)
    watch = reconciling.DriftWatch(shop.desk)
    shop.products.products[tea].stock += 1
    looks = []
    with shop.session() as session:
        for minute in range(40):
            now = 60.0 * minute
            if watch(session):
                looks.append(minute)
                while watch(session):
                    pass
    assert looks == [0, 1, 2, 4, 8, 16, 26, 36]


def test_the_worker_begins_anew_after_a_failure(busy):
    shop, _, _ = busy
    with shop.session() as session:
        watch = reconciling.DriftWatch(shop.desk, settle_seconds=0, rest_seconds=0)
        assert watch(session)
        calls = itertools.count()
        # The rest of the first search is answered, and nothing of the second.
        shop.products.before["books"] = lambda _: 500 if next(calls) else None
        shop.products.products[1].stock += 1
        while watch(session):
            pass
        with pytest.raises(DependencyAway):
            watch(session)
        shop.products.before.clear()
        while watch(session):
            pass
        assert reconciling.last_drift(session) == {"": 1.0}


def test_the_metric_tells_no_old_number_after_a_search_that_failed(busy):
    shop, _, _ = busy
    with shop.session() as session:
        watch = reconciling.DriftWatch(shop.desk, settle_seconds=0, rest_seconds=0)
        while watch(session):
            pass
        assert reconciling.last_drift(session) == {"": 0.0}
        shop.products.before["books"] = lambda _: 500
        with pytest.raises(DependencyAway):
            watch(session)
        assert reconciling.last_drift(session) == {}


def test_the_lines_of_a_product_are_read_so_many_at_once(busy, monkeypatch):
    shop, orders, _ = busy
    monkeypatch.setattr(pieces, "LINES_AT_ONCE", 2)
    with shop.statements() as sent:
        assert run(shop) == (0, ["drift 0"])
    # Five orders have a line of it.
    assert len([one for one in sent if "order_items" in one]) == 3 + 1
    shop.rows("UPDATE order_items SET quantity = 9 WHERE order_id = :o", o=orders["part"])
    assert run(shop)[0] == 1


def test_a_page_of_fewer_products_than_were_asked_for_is_not_the_last(busy, monkeypatch):
    shop, _, _ = busy
    other = shop.products.add()
    read = shop.products.read_books
    monkeypatch.setattr(shop.products, "read_books", lambda after, _limit: read(after, 1))
    assert run(shop) == (0, ["drift 0"])
    shop.products.products[other].stock += 1
    assert run(shop)[1][-1] == "drift 1"


def test_no_transaction_is_open_between_two_pages(busy):
    shop, _, _ = busy
    with shop.session() as session:
        for _ in reconciling.find_drift(session, shop.desk, 0):
            assert not session().in_transaction()


def test_what_orders_do_while_the_lines_are_read_is_no_drift(busy, monkeypatch):
    shop, _, tea = busy
    monkeypatch.setattr(pieces, "LINES_AT_ONCE", 1)
    buyer = shop.person(1)
    placed: list[str] = []
    with shop.session() as session:
        found = []
        for page in reconciling._product_pages(session, shop.desk):
            found += page
            if len(placed) < 8:
                placed.append(buyer.ordered((tea, 1))["id"])
                if len(placed) % 2:
                    assert buyer.do("cancel", placed[-1]).status_code == 200
    assert found == []
