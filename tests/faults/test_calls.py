"""The driver says ok, failed or unknown as it was, and settles the unknown with the same key and body."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.faults.calls import Person, Record, Shop, judge


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (201, b'{"id": 1}', "ok"),
        (202, b"{}", "ok"),
        (204, b"", "ok"),
        (200, b'{"id":', "unknown"),
        (402, b'{"code": "payment_declined"}', "failed"),
        (404, b'{"code": "not_found"}', "failed"),
        (409, b'{"code": "insufficient_stock"}', "failed"),
        (409, b'{"code": "idempotency_in_progress"}', "unknown"),
        (429, b'{"code": "rate_limited"}', "unknown"),
        (500, b'{"code": "internal_error"}', "unknown"),
        (502, b"<html>", "unknown"),
        (503, b'{"code": "service_unavailable"}', "unknown"),
        (504, b"", "unknown"),
    ],
)
def test_an_answer_says_what_it_says(status, body, outcome):
    done, _ = judge(1.0, 2.0, status, body)
    assert done.outcome == outcome


class Shaky(BaseHTTPRequestHandler):
    """Drops connections, says 503, and at last answers."""

    answers: list[int]
    seen: list[tuple[str, bytes]]

    def do_POST(self):
        """Do what is next."""
        length = int(self.headers.get("Content-Length", 0))
        self.seen.append((self.headers.get("Idempotency-Key"), self.rfile.read(length)))
        status = self.answers.pop(0)
        if not status:
            self.connection.close()
            return
        body = b'{"id": "o1", "access_token": "t", "user": {"id": 7}}'
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        """Say nothing."""


@pytest.fixture
def shaky():
    """Yield a server that fails as told, and its address."""
    handler = type("Shaky", (Shaky,), {"answers": [], "seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield handler, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_broken_connection_is_unknown_until_the_same_call_is_answered(shaky):
    handler, url = shaky
    handler.answers += [0, 503, 201]
    record = Record()
    shop = Shop(url, record)
    call = shop.call("order", "POST", "/orders", None, {"remark": "x"}, keyed=True)
    assert call.outcome == "unknown"
    shop.settle(call, time.time() + 10)
    assert [one.outcome for one in call.tries] == ["unknown", "unknown", "ok"]
    assert call.answer["id"] == "o1"
    assert handler.seen == [(call.key, b'{"remark": "x"}')] * 3
    assert record.counts() == {"unknown": 2, "ok": 1}


def test_a_session_that_is_over_is_renewed_and_the_call_repeated(shaky):
    handler, url = shaky
    handler.answers += [401, 200, 201]
    shop = Shop(url, Record())
    person = Person(7, "buyer", "buyer@example.com", "secret", "old", time.time())
    call = shop.call("order", "POST", "/orders", person, {}, keyed=True)
    assert call.outcome == "ok"
    assert person.token == "t"


def test_only_what_was_never_answered_counts_as_in_flight(shaky):
    handler, url = shaky
    handler.answers += [201, 201]
    record = Record()
    shop = Shop(url, record)
    before = time.time()
    shop.call("order", "POST", "/orders", None, {}, keyed=True)
    call = shop.call("pay", "POST", "/orders/1/pay", None, {}, keyed=True)
    assert shop.in_flight() == 0
    assert record.in_flight_at(before - 1) == 0
    assert record.in_flight_at((call.tries[0].started + call.tries[0].ended) / 2) == 1
