"""The load keeps to its connections, can be stopped and started, and has checkouts in flight at a blow."""

import itertools
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from tests.faults import bank_plans, visitor
from tests.faults.calls import CONNECTIONS
from tests.faults.load import Load


class FakeShop(BaseHTTPRequestHandler):
    """Takes every order and every payment, a little later; also RabbitMQ's management."""

    protocol_version = "HTTP/1.1"
    # An answer in two pieces would wait for the acknowledgement of the first.
    wbufsize = 65536
    numbers = itertools.count(1)
    lock = threading.Lock()
    open_now: int
    most_open: int
    away: bool
    seconds: float

    def do_POST(self):
        """Answer whatever is asked."""
        kind = type(self)
        with self.lock:
            kind.open_now += 1
            kind.most_open = max(kind.most_open, kind.open_now)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        time.sleep(kind.seconds)
        status, body = (503, {"code": "service_unavailable"}) if kind.away else self.answer()
        raw = json.dumps(body).encode()
        # Before the answer is out: the next request may come at once.
        with self.lock:
            kind.open_now -= 1
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    do_GET = do_PUT = do_POST

    def answer(self):
        """Make what a shop would say."""
        number = next(self.numbers)
        items = [{"product_id": 1}]
        order = {"id": f"o{number}", "total_amount": "9.90", "items": items, "routed": True}
        session = {"access_token": "t", "user": {"id": number}}
        created = re.search("/(products|register|orders)$", self.path) and self.command == "POST"
        return (201 if created else 200), order | session | {"id": number}

    def log_message(self, *arguments):
        """Say nothing."""


@pytest.fixture
def shop():
    """Yield the fake shop's class and a load that is prepared for it."""
    handler = type("Fake", (FakeShop,), {"open_now": 0, "most_open": 0, "away": False, "seconds": 0.0})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    env = {"ADMIN_USERNAME": "admin", "ADMIN_PASSWORD": "secret"}
    env |= {"RABBITMQ_DEFAULT_USER": "admin", "RABBITMQ_DEFAULT_PASS": "secret"}
    nowhere = {"product": "host=127.0.0.1 port=1 dbname=none"}
    stage = SimpleNamespace(url=url, env=env, databases=nowhere, rabbitmq_url=url)
    load = Load(stage, think=(0.0, 0.05))
    load.prepare()
    handler.seconds = 0.2
    yield handler, load
    load.stop()
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_burst_has_checkouts_in_flight_and_keeps_to_the_connections(shop):
    handler, load = shop
    load.start()
    assert load.burst(12) >= 12
    struck = time.time()
    time.sleep(1)
    load.stop()
    assert load.in_flight() == 0
    assert load.record.in_flight_at(struck) > 0
    assert 12 <= handler.most_open <= CONNECTIONS
    assert load.first_success_after(struck) > 0


def test_a_load_can_be_started_again(shop):
    _, load = shop
    load.start()
    time.sleep(0.2)
    load.stop()
    before = len(load.record.calls)
    time.sleep(0.2)
    assert len(load.record.calls) == before
    load.start()
    time.sleep(0.5)
    load.stop()
    assert len(load.record.calls) > before


def test_who_gets_no_answer_asks_less_often_and_all_is_settled_afterwards(shop):
    handler, load = shop
    load.start()
    handler.away = True
    load.burst(12)
    time.sleep(2)
    handler.away = False
    load.stop()
    counts = load.record.counts()
    # Sixteen who never paused would have made a thousand.
    assert 0 < counts["unknown"] < 200
    assert load.settle() == 0
    assert all(call.outcome != "unknown" for call in load.record.of("order", "pay", "refund"))


def test_keys_are_in_the_remark_and_in_the_reason(shop):
    _, load = shop
    load.start()
    load.burst(12)
    time.sleep(1)
    load.stop()
    orders, refunds = load.record.of("order"), load.record.of("refund")
    assert orders
    assert all(call.key and call.body["remark"] == call.key for call in orders)
    assert all(call.key and call.body["reason"] == call.key for call in refunds)
    assert len({call.key for call in orders}) == len(orders)


def test_buyers_pay_in_ways_that_the_bank_knows_and_are_asked_for_now_and_then():
    assert visitor.TOKENS.keys() - {"tok_success"} <= bank_plans.TOKENS.keys()
    assert visitor.TOKENS["tok_action"] > 0
    # Who never ends a payment keeps the suite from its rest for ten minutes.
    assert all(bank_plans.TOKENS[token].settles for token in visitor.TOKENS if token != "tok_success")
