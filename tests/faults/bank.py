"""A payment provider of its own, to judge the shop by; it keeps to docs/payments.md, and misbehaves as told.

    python -m tests.faults.bank --port 9100 --ledger ledger.jsonl --key KEY --webhook-secret SECRET

Its ledger is a file to which lines are only ever added, each before its effect counts: `authorise`,
`capture`, `cancel` and `refund`. A bank that is started again reads it back. It needs nothing but Python.

For the lab (without a key):

    GET    /lab/health
    GET    /lab/ledger[?after=SEQ]           every line
    GET    /lab/webhooks                     what was told to the shop, and how often it had to be tried
    GET    /lab/behaviour                    how it behaves
    PUT    /lab/behaviour                    change some of that: `Behaviour` in bank_plans.py
    DELETE /lab/behaviour                    behave as at the start again
    POST   /lab/payments/ID/capture          take the money, whatever was said before: {amount?, currency?}
    POST   /lab/payments/ID/fail             give up a payment that is under way

What happens to a payment is said by its token (`TOKENS` there); those without one, or with `tok_success`,
follow the shares of the behaviour, drawn from the seed and the payment's id: the same again after a restart.
"""

import argparse
import dataclasses
import hmac
import json
import os
import re
import signal
import socket
import sys
import time
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.faults.bank_office import Bank
from tests.faults.bank_plans import Behaviour, Refused

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
AMOUNT = re.compile(r"(0|[1-9][0-9]{0,11})\.[0-9]{2}", re.ASCII)
LARGEST_BODY = 64 * 1024


class Counter(BaseHTTPRequestHandler):
    """Answers the shop and the lab."""

    bank: Bank
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle_any(self) -> None:
        """Answer one request."""
        try:
            length = int(self.headers.get("Content-Length") or 0)
            if length > LARGEST_BODY:
                self.close_connection = True
                raise Refused(413, "too_large")
            raw = self.rfile.read(length)
            self._route(raw)
        except Refused as refusal:
            self.answer(refusal.status, refusal.body)
        except ConnectionError:
            self.close_connection = True

    do_GET = do_PUT = do_POST = do_DELETE = handle_any

    def _route(self, raw: bytes) -> None:
        path = urlsplit(self.path).path
        for method, pattern, name in ROUTES:
            found = re.fullmatch(pattern, path)
            if found and method == self.command:
                if not path.startswith("/lab/"):
                    self._check_key()
                getattr(self, name)(_parse(raw), *found.groups())
                return
        raise Refused(404, "not_found")

    def _check_key(self) -> None:
        sent = self.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(sent, b"Bearer " + self.bank.key.encode()):
            raise Refused(401, "unauthorized")

    # --- For the shop ---

    def charge(self, body: Any, payment_id: str) -> None:
        """PUT /payments/ID."""
        amount, currency, token = _amount(body), _currency(body), body.get("token")
        if not (token is None or isinstance(token, str)):
            raise Refused(422, "invalid", "token")
        plan = self.bank.behaviour.plan(payment_id, token)
        if plan.arrival == "never":
            self._drop()
            return
        if plan.arrival == "late":
            time.sleep(self.bank.behaviour.late_reply_seconds)
        payment, to_tell = self.bank.charge(payment_id, amount, currency, token, plan)
        try:
            self._reply(plan.reply, payment.shown())
        finally:
            for delivery in to_tell:
                self.bank.herald.send(delivery)

    def look_up(self, _body: Any, payment_id: str) -> None:
        """GET /payments/ID."""
        self.answer(200, self.bank.books.find(payment_id).shown())

    def cancel(self, _body: Any, payment_id: str) -> None:
        """POST /payments/ID/cancel."""
        self.answer(200, self.bank.books.give_up(payment_id, "cancelled").shown())

    def refund(self, body: Any, payment_id: str, refund_id: str) -> None:
        """PUT /payments/ID/refunds/ID."""
        amount, currency = _amount(body), _currency(body)
        status, lost = self.bank.refund(refund_id, payment_id, amount, currency)
        if lost:
            self._drop()
            return
        shown = {"refund_id": refund_id, "payment_id": payment_id, "status": status}
        reason = {"reason": "refused by the bank"} if status == "refused" else {}
        self.answer(200, shown | {"amount": amount, "currency": currency} | reason)

    def _reply(self, how: str, shown: dict[str, Any]) -> None:
        if how == "drop":
            self._drop()
            return
        if how in ("late", "silent"):
            time.sleep(self.bank.behaviour.late_reply_seconds * (1 if how == "late" else 5))
        if how == "error":
            raise Refused(500, "internal", "something broke after the payment was taken")
        if how == "malformed":
            self._send(200, b'{"payment_id": "' + shown["payment_id"].encode() + b'", "status": "capt')
        elif how == "misaddressed":
            self.answer(200, shown | {"payment_id": "00000000-0000-7000-8000-000000000000"})
        elif how == "drip":
            self._drip(json.dumps(shown).encode())
        else:
            self.answer(200, shown)
            if how == "twice":
                self.answer(200, shown)

    def _drop(self) -> None:
        """Break the connection without an answer."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _drip(self, body: bytes) -> None:
        """Send an answer so slowly that no single wait is long, but all of them together are."""
        self.close_connection = True
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        for byte in head.encode() + body:
            self.wfile.write(bytes([byte]))
            time.sleep(0.2)

    # --- For the lab ---

    def lab_health(self, _body: Any) -> None:
        """GET /lab/health."""
        self.answer(200, {"status": "ok"})

    def lab_ledger(self, _body: Any) -> None:
        """GET /lab/ledger."""
        after = parse_qs(urlsplit(self.path).query).get("after", ["0"])[0]
        self.answer(200, self.bank.books.ledger.lines[int(after) if after.isdigit() else 0 :])

    def lab_webhooks(self, _body: Any) -> None:
        """GET /lab/webhooks."""
        shown = [
            {"body": d.body, "answers": d.answers, "taken": d.taken}
            for d in list(self.bank.herald.deliveries)
        ]
        self.answer(200, shown)

    def lab_behaviour(self, body: Any) -> None:
        """GET, PUT and DELETE /lab/behaviour."""
        if self.command == "PUT":
            self.bank.behaviour = self.bank.behaviour.changed(body)
        elif self.command == "DELETE":
            self.bank.behaviour = self.bank.first_behaviour
        self.answer(200, dataclasses.asdict(self.bank.behaviour))

    def lab_capture(self, body: Any, payment_id: str) -> None:
        """POST /lab/payments/ID/capture."""
        wanted = {name: str(body[name]) for name in ("amount", "currency") if name in body}
        self.answer(200, self.bank.end(payment_id, "captured", force=True, **wanted).shown())

    def lab_fail(self, _body: Any, payment_id: str) -> None:
        """POST /lab/payments/ID/fail."""
        self.answer(200, self.bank.end(payment_id, "failed").shown())

    def answer(self, status: int, body: Any) -> None:
        """Answer with JSON."""
        self._send(status, json.dumps(body).encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Keep quiet: the ledger says what happened."""


ROUTES = (
    ("PUT", f"/payments/({UUID})", "charge"),
    ("GET", f"/payments/({UUID})", "look_up"),
    ("POST", f"/payments/({UUID})/cancel", "cancel"),
    ("PUT", f"/payments/({UUID})/refunds/({UUID})", "refund"),
    ("GET", "/lab/health", "lab_health"),
    ("GET", "/lab/ledger", "lab_ledger"),
    ("GET", "/lab/webhooks", "lab_webhooks"),
    ("GET", "/lab/behaviour", "lab_behaviour"),
    ("PUT", "/lab/behaviour", "lab_behaviour"),
    ("DELETE", "/lab/behaviour", "lab_behaviour"),
    ("POST", f"/lab/payments/({UUID})/capture", "lab_capture"),
    ("POST", f"/lab/payments/({UUID})/fail", "lab_fail"),
)


class Hall(ThreadingHTTPServer):
    """A server with room for a burst of connections."""

    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet about callers who hang up."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _parse(raw: bytes) -> Any:
    try:
        body = json.loads(raw or b"{}")
    except ValueError:
        raise Refused(400, "invalid_json") from None
    if not isinstance(body, dict):
        raise Refused(422, "invalid", "an object is expected")
    return body


def _amount(body: Any) -> str:
    amount = body.get("amount")
    if not isinstance(amount, str) or not AMOUNT.fullmatch(amount) or not Decimal(amount):
        raise Refused(422, "invalid", "amount")
    return amount


def _currency(body: Any) -> str:
    currency = body.get("currency")
    if not isinstance(currency, str) or not re.fullmatch("[A-Z]{3}", currency, re.ASCII):
        raise Refused(422, "invalid", "currency")
    return currency


def main() -> None:
    """Read the options and serve until told to end."""
    parser = argparse.ArgumentParser(description="A payment provider that keeps a ledger and misbehaves.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--key", default="bank-key-for-tests")
    parser.add_argument("--webhook-url", default="")
    parser.add_argument("--webhook-secret", default="bank-webhook-secret-for-tests")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    behaviour = Behaviour(
        seed=options.seed, webhook_url=options.webhook_url, webhook_secret=options.webhook_secret
    )
    bank = Bank(options.ledger, options.key, behaviour)
    server = Hall((options.host, options.port), type("BankCounter", (Counter,), {"bank": bank}))
    for number in (signal.SIGTERM, signal.SIGINT):
        # Nothing is left to be done at the end: what counts is in the file.
        signal.signal(number, lambda *_: os._exit(0))
    server.serve_forever()


if __name__ == "__main__":
    main()
