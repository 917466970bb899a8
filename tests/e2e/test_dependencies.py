"""One thing after another away: what needs it says so soon, the rest goes on, and nothing is lost."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import urllib3

from tests.e2e.client import Client, eventually
from tests.e2e.conftest import PASSWORD, word

GONE, SILENT = 3, 6
# Eight times as many as a service has threads.
CROWD = 128


@contextmanager
def outage(suite, name, *, silent=False):
    """Take one thing away for a while, and wait afterwards until every service is well again."""
    try:
        with suite.silent(name) if silent else suite.without(name):
            yield SILENT if silent else GONE
    finally:
        well = eventually(lambda: _all_well(suite), seconds=60, every=0.5)
    assert well, "the services did not recover"


def _all_well(suite):
    try:
        healths = [Client(url).get("/health", prefix="") for url in suite.service_urls.values()]
    except urllib3.exceptions.HTTPError:
        return False
    return all(health.status == 200 and health.body["status"] == "ok" for health in healths)


def unavailable(reply, seconds):
    """Check that a request was refused in time because something is away."""
    assert reply.status == 503, (reply.request, reply.status, reply.raw[:300])
    assert reply.code == "service_unavailable"
    assert reply.seconds < seconds, (reply.request, reply.seconds)


def order_and_pay(buyer, product, quantity=1):
    """Order something and pay it."""
    order = buyer.post("/orders", {"items": [{"product_id": product["id"], "quantity": quantity}]}).expect(
        201
    )
    return buyer.post(f"/orders/{order['id']}/pay", {"method": "sandbox"}).expect(200)


def receipt(buyer, order):
    """Wait for the notification of a paid order, which proves that its events arrived."""
    query = "/notifications/history?event_type=order.paid&channel=email&limit=100"
    sent = eventually(
        lambda: [n for n in buyer.get(query).body["items"] if n["status"] == "sent"], seconds=60, every=0.5
    )
    assert len(sent) == 1, (order["id"], sent)


@pytest.mark.parametrize("silent", [False, True], ids=["gone", "silent"])
def test_without_the_broker_shopping_goes_on_and_events_arrive_later(
    running_suite, anyone, customer, new_product, silent
):
    product, name = new_product(), f"u_{word()}"
    with outage(running_suite, "rabbitmq", silent=silent):
        account = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
        anyone.post("/register", account).expect(201)
        newcomer = anyone.login(name, PASSWORD)
        orders = [(buyer, order_and_pay(buyer, product)) for buyer in (customer, newcomer)]
        cancelled = newcomer.post(
            "/orders", {"items": [{"product_id": product["id"], "quantity": 5}]}
        ).expect(201)
        newcomer.post(f"/orders/{cancelled['id']}/cancel").expect(200)
    for buyer, order in orders:
        receipt(buyer, order)
    history = f"/notifications/history?event_type=user.registered&user_id={newcomer.user['id']}"
    assert eventually(lambda: newcomer.get(history).body["items"], seconds=30)
    left = product["stock"] - 2
    assert eventually(lambda: anyone.get(f"/products/{product['id']}").body["stock"] == left, seconds=30)


@pytest.mark.parametrize("silent", [False, True], ids=["gone", "silent"])
def test_without_redis_browsing_and_ordering_go_on_and_logins_wait(
    running_suite, anyone, customer, new_product, silent
):
    product = new_product()
    with outage(running_suite, "redis", silent=silent) as limit:
        anyone.get("/products").expect(200)
        anyone.get(f"/products/{product['id']}").expect(200)
        customer.put(f"/cart/items/{product['id']}", {"quantity": 1})
        assert len(customer.get("/cart").expect(200)["items"]) == 1
        order = order_and_pay(customer, product)
        customer.get("/profile").expect(200)
        credentials = {"username": customer.user["username"], "password": PASSWORD}
        unavailable(anyone.post("/login", credentials), limit)
        unavailable(anyone.post("/token/refresh", {"refresh_token": customer.refresh_token}), limit)
        unavailable(customer.post("/logout"), limit)
    customer.get("/profile").expect(200)
    anyone.login(customer.user["username"], PASSWORD)
    anyone.post("/token/refresh", {"refresh_token": customer.refresh_token}).expect(200)
    receipt(customer, order)


@pytest.mark.parametrize("silent", [False, True], ids=["gone", "silent"])
def test_without_the_product_service_orders_wait_and_reading_goes_on(
    running_suite, anyone, customer, new_product, new_order, stock_of, silent
):
    product = new_product(stock=10)
    waiting = new_order(customer, (product["id"], 2))
    body = {"items": [{"product_id": product["id"], "quantity": 1}]}
    with outage(running_suite, "product-service", silent=silent) as limit:
        key = {"Idempotency-Key": word()}
        unavailable(customer.post("/orders", body, headers=key), limit)
        customer.get("/orders").expect(200)
        paid = customer.post(f"/orders/{waiting['id']}/pay", {"method": "sandbox"}).expect(200)
        gone = anyone.get("/products")
        assert gone.status in (502, 503, 504)
        customer.get("/profile").expect(200)
    retried = eventually(
        lambda: r if (r := customer.post("/orders", body, headers=key)).status == 201 else None
    )
    assert retried, "an order with the same key succeeds once the service is back"
    receipt(customer, paid)
    assert len(customer.all("/orders")) == 2
    assert eventually(lambda: stock_of(product["id"]) == 7, seconds=90, every=1), "no piece stays reserved"


def test_without_the_user_service_those_who_are_signed_in_go_on(running_suite, anyone, customer, new_product):
    product = new_product()
    with outage(running_suite, "user-service"):
        customer.put(f"/cart/items/{product['id']}", {"quantity": 2})
        order = customer.post("/orders", {}).expect(201)
        customer.post(f"/orders/{order['id']}/pay", {"method": "sandbox"}).expect(200)
        customer.get("/notifications/history").expect(200)
        anyone.get("/products").expect(200)
        assert anyone.post("/login", {"username": "a", "password": "b"}).status in (502, 503, 504)
    receipt(customer, order)
    anyone.login(customer.user["username"], PASSWORD)


def test_without_the_notification_service_shopping_goes_on(running_suite, customer, new_product):
    product = new_product()
    with outage(running_suite, "notification-service"):
        order = order_and_pay(customer, product)
    receipt(customer, order)


def test_without_the_mail_server_mails_arrive_later(running_suite, customer, new_product, mailbox):
    with outage(running_suite, "maildev"):
        order = order_and_pay(customer, new_product())
        time.sleep(3)
        shown = customer.get("/notifications/history?event_type=order.paid").expect(200)["items"]
        assert all(n["status"] in ("queued", "sending") for n in shown if n["channel"] == "email")
    receipt(customer, order)
    assert mailbox.wait(customer.user["email"], order["id"], seconds=60)


@pytest.mark.parametrize("silent", [False, True], ids=["gone", "silent"])
def test_without_the_database_every_service_says_so_and_recovers(
    running_suite, anyone, customer, new_product, silent
):
    product = new_product()
    with outage(running_suite, "postgres", silent=silent) as limit:
        body = {"items": [{"product_id": product["id"], "quantity": 1}]}
        credentials = {"username": customer.user["username"], "password": PASSWORD}
        requests = [
            lambda: anyone.get("/products?q=nothing"),
            lambda: customer.get("/profile"),
            lambda: customer.get("/orders"),
            lambda: customer.post("/orders", body),
            lambda: customer.get("/notifications/history"),
            lambda: anyone.post("/login", credentials),
        ]
        with ThreadPoolExecutor(len(requests)) as pool:
            for reply in pool.map(lambda send: send(), requests):
                unavailable(reply, limit)
            healths = pool.map(
                lambda url: Client(url).get("/health", prefix=""), running_suite.service_urls.values()
            )
            assert {health.status for health in healths} == {503}
        for url in running_suite.service_urls.values():
            Client(url).get("/health/live", prefix="").expect(200)
    order = order_and_pay(customer, product)
    receipt(customer, order)


@pytest.mark.parametrize("silent", ["postgres", "product-service"])
def test_a_crowd_does_not_wait_for_a_silence_in_turns(running_suite, customer, new_product, silent):
    product = new_product(stock=CROWD + 1)
    body = {"items": [{"product_id": product["id"], "quantity": 1}]}
    with outage(running_suite, silent, silent=True) as limit, ThreadPoolExecutor(CROWD) as crowd:
        for reply in list(crowd.map(lambda _: customer.post("/orders", body), range(CROWD))):
            unavailable(reply, limit)
    order_and_pay(customer, product)
