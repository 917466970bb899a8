"""What an operator sees: health, metrics, documents, logs, and the broker."""

import json
import re
from urllib.parse import quote

import pytest
import urllib3

from tests.contracts.event_schemas import problems
from tests.e2e.client import POOL, Client, eventually
from tests.e2e.conftest import PASSWORD, word
from tests.e2e.suite import SERVICES

QUEUES = {
    "user.events": "user.#",
    "product.events": "product.#",
    "order.events": "order.#",
    "product-service.order.events": "order.#",
    "notification.tasks": None,
}


class Broker:
    """RabbitMQ's management interface, as the administrator of the settings."""

    def __init__(self, suite):
        self.url = f"{suite.rabbitmq_url}/api"
        self.user, self.password = suite.env["RABBITMQ_DEFAULT_USER"], suite.env["RABBITMQ_DEFAULT_PASS"]

    def ask(self, method, path, body=None, login=None):
        """Send one request."""
        user, password = login or (self.user, self.password)
        headers = urllib3.make_headers(basic_auth=f"{user}:{password}")
        headers |= {"Content-Type": "application/json", "Connection": "close"}
        return POOL.request(method, self.url + path, body=json.dumps(body or {}).encode(), headers=headers)

    def get(self, path):
        """Read something."""
        answer = self.ask("GET", path)
        assert answer.status == 200, (path, answer.status, answer.data)
        return answer.json()


@pytest.fixture(scope="module")
def broker(running_suite):
    """Return the broker's management interface."""
    return Broker(running_suite)


class TestHealth:
    @pytest.mark.parametrize("service", SERVICES)
    def test_of_a_service(self, running_suite, service):
        client = Client(running_suite.service_urls[service])
        health = client.get("/health", prefix="").expect(200)
        assert (health["status"], health["service"]) == ("ok", service)
        assert health["checks"]["database"] == "ok"
        assert health["version"]
        client.get("/health/live", prefix="").expect(200)

    def test_of_nginx_is_its_own(self, anyone):
        assert anyone.get("/health", prefix="").status == 200


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_answers_on_its_own_port(running_suite, service):
    client = Client(running_suite.service_urls[service])
    path = {"user-service": "/profile", "product-service": "/products", "order-service": "/orders"}.get(
        service
    )
    reply = client.get(path or "/notifications/history")
    assert reply.status == (200 if service == "product-service" else 401)


@pytest.mark.parametrize("service", SERVICES)
def test_metrics_are_all_there(running_suite, service):
    url = running_suite.service_urls[service]
    Client(url).get("/nothing")
    text = POOL.request("GET", f"{url}/metrics").data.decode()
    for metric in (
        r"http_requests_total\{[^}]*\}",
        r"http_request_duration_seconds_bucket\{[^}]*\}",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        r"db_connections\{state=[^}]*\}",
        "outbox_unsent",
        "outbox_lag_seconds",
        r"dead_letters\{queue=[^}]*\}",
    ):
        assert re.search(rf"^{metric} \d", text, re.MULTILINE), (metric, text)
    labels = re.search(r"^http_requests_total\{([^}]*)\}", text, re.MULTILINE)[1]
    assert {"route", "method", "status"} <= set(re.findall(r"(\w+)=", labels))


class TestDocuments:
    @pytest.mark.parametrize("service", SERVICES)
    def test_describe_each_service(self, running_suite, anyone, service):
        document = anyone.get(f"/docs/{service}.json", prefix="").expect(200)
        assert document["openapi"].startswith("3.1")
        own = Client(running_suite.service_urls[service]).get("/openapi.json", prefix="").expect(200)
        assert own["paths"] == document["paths"]

    def test_are_one_page_that_needs_nothing_from_elsewhere(self, running_suite):
        page = POOL.request("GET", f"{running_suite.url}/docs", redirect=True, retries=3)
        assert page.status == 200
        assert page.headers["Content-Type"].startswith("text/html")
        html = page.data.decode()
        assert not re.search(r"""(src|href)\s*=\s*["'](https?:)?//""", html)
        for asset in re.findall(r"""(?:src|href)\s*=\s*["'](?!data:)([^"'#]+)["']""", html):
            path = asset if asset.startswith("/") else f"/docs/{asset.removeprefix('./')}"
            assert POOL.request("GET", running_suite.url + path).status == 200, asset
        for service in SERVICES:
            assert service in html or _mentions(running_suite, html, service)

    def test_are_where_the_shop_leads_to(self, running_suite):
        answer = POOL.request("GET", f"{running_suite.url}/", redirect=False)
        assert answer.status in (301, 302, 303, 307, 308)
        assert re.search(r"/docs/?$", answer.headers["Location"])


def _mentions(suite, html, text):
    """Tell whether a script of the page mentions a text."""
    for asset in re.findall(r"""src\s*=\s*["']([^"']+\.js)["']""", html):
        path = asset if asset.startswith("/") else f"/docs/{asset.removeprefix('./')}"
        if text in POOL.request("GET", suite.url + path).data.decode():
            return True
    return False


def test_a_request_is_found_in_the_logs_of_all_that_it_moved(running_suite, customer, new_product):
    request_id = f"trace-{word()}"
    body = {"items": [{"product_id": new_product()["id"], "quantity": 1}]}
    customer.post("/orders", body, headers={"X-Request-ID": request_id}).expect(201)
    for service in ("order-service", "product-service", "notification-service"):
        path = running_suite.logs / service / "app.log"
        found = eventually(
            lambda path=path: [line for line in path.read_text().splitlines() if request_id in line]
        )
        assert found, path
        assert all(json.loads(line)["request_id"] == request_id for line in found if "request_id" in line)


def test_logs_hold_no_password_or_token(running_suite, anyone):
    name, password = f"u_{word()}", f"{word()} {word()}"
    account = {"username": name, "email": f"{name}@example.com", "password": password}
    anyone.post("/register", account).expect(201)
    session = anyone.login(name, password)
    anyone.post("/token/refresh", {"refresh_token": session.refresh_token}).expect(200)
    for path in running_suite.logs.rglob("*.log"):
        text = path.read_text(errors="replace")
        assert password not in text, path
        assert session.token not in text, path
        assert session.refresh_token not in text, path


class TestBroker:
    def test_has_the_exchange_and_every_queue_with_its_dead_letters(self, broker):
        exchange = broker.get("/exchanges/%2F/ecommerce.events")
        assert (exchange["type"], exchange["durable"]) == ("topic", True)
        queues = {queue["name"]: queue for queue in broker.get("/queues/%2F")}
        for name in QUEUES:
            for queue in (queues[name], queues[f"{name}.dead"]):
                assert (queue["durable"], queue["type"]) == (True, "quorum")

    def test_binds_each_queue_to_its_events(self, broker):
        for queue, key in QUEUES.items():
            bound = broker.get(f"/bindings/%2F/e/ecommerce.events/q/{queue}")
            assert [binding["routing_key"] for binding in bound] == ([key] if key else [])

    def test_every_queue_of_events_has_a_reader(self, broker):
        for queue in QUEUES:
            assert eventually(lambda queue=queue: broker.get(f"/queues/%2F/{queue}").get("consumers")), queue

    def test_knows_no_guest_and_lets_services_do_only_their_own(self, broker):
        users = {user["name"]: user for user in broker.get("/users")}
        assert "guest" not in users
        assert broker.ask("GET", "/whoami", login=("guest", "guest")).status == 401
        assert "administrator" in users[broker.user]["tags"]
        services = [name for name in users if name.endswith("_service")]
        assert len(services) == 4
        for name in services:
            permission = broker.get(f"/users/{name}/permissions")[0]
            assert permission["configure"] in ("", "^$")
            assert permission["write"] not in (".*", "")

    def test_nothing_died(self, broker):
        dead = {name: broker.get(f"/queues/%2F/{name}.dead").get("messages", 0) for name in QUEUES}
        assert set(dead.values()) == {0}, dead


@pytest.fixture
def tapped(broker):
    """Return a function that reads every event published meanwhile, with its message properties."""
    queue = f"test.{word()}"
    assert broker.ask("PUT", f"/queues/%2F/{queue}", {"durable": False, "auto_delete": False}).status == 201
    assert (
        broker.ask("POST", f"/bindings/%2F/e/ecommerce.events/q/{queue}", {"routing_key": "#"}).status == 201
    )
    seen = []

    def read():
        options = {"count": 1000, "ackmode": "ack_requeue_false", "encoding": "auto"}
        seen.extend(broker.ask("POST", f"/queues/%2F/{quote(queue)}/get", options).json())
        return seen

    yield read
    broker.ask("DELETE", f"/queues/%2F/{queue}")


def test_events_are_published_as_their_schemas_say(
    tapped, anyone, admin, new_customer, new_product, new_order
):
    name = f"u_{word()}"
    account = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
    user = anyone.post("/register", account, headers={"X-Request-ID": name}).expect(201)
    buyer = anyone.login(name, PASSWORD)
    buyer.put("/profile", {"locale": "en"}).expect(200)
    product = new_product(stock=10)
    admin.put(f"/products/{product['id']}", {"name": "new name", "price": "12.00"}).expect(200)
    shipped, cancelled = new_order(buyer, (product["id"], 1)), new_order(buyer, (product["id"], 2))
    buyer.post(f"/orders/{shipped['id']}/pay", {"method": "sandbox"}).expect(200)
    admin.post(f"/orders/{shipped['id']}/ship", {"carrier": "SF", "tracking_number": "1"}).expect(200)
    buyer.post(f"/orders/{shipped['id']}/complete").expect(200)
    admin.post(f"/orders/{shipped['id']}/refund", {"amount": "1.00", "reason": "late"}).expect(200)
    buyer.post(f"/orders/{cancelled['id']}/cancel").expect(200)

    expected = {
        str(user["id"]): ["user.registered", "user.updated"],
        str(product["id"]): ["product.created", "product.updated"],
        shipped["id"]: ["order.created", "order.paid", "order.shipped", "order.completed", "order.refunded"],
        cancelled["id"]: ["order.created", "order.cancelled"],
    }
    changes = [10, -1, -2, 2]

    def events_of(subject, prefix):
        events = [json.loads(message["payload"]) for message in tapped()]
        return [e for e in events if e["subject"] == subject and e["type"].startswith(prefix)]

    for subject, types in expected.items():
        prefix = types[0].split(".")[0]
        events = eventually(
            lambda s=subject, p=prefix, t=types: e if len(e := events_of(s, p)) >= len(t) else []
        )
        told = [event["type"] for event in events if event["type"] != "product.stock.updated"]
        assert told == types
        sequences = [event["sequence"] for event in events]
        assert sequences == sorted(set(sequences)), "published out of order"
    stock = eventually(
        lambda: (
            e
            if len(e := events_of(str(product["id"]), "product.stock")) >= 3 and e[-1]["data"]["delta"] == 2
            else []
        )
    )
    assert [event["data"]["delta"] for event in stock][-3:] == changes[-3:]
    for message in tapped():
        event = json.loads(message["payload"])
        assert problems(event) == []
        assert message["routing_key"] == event["type"]
        assert message["properties"]["message_id"] == event["id"]
        assert message["properties"]["delivery_mode"] == 2
    registered = events_of(str(user["id"]), "user.registered")[0]
    assert registered["requestid"] == name
    assert registered["traceparent"]
