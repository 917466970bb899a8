"""How the provider of `http` reads what comes back: only a well-formed answer to the question counts."""

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest

from deploy.setup.certificate import make_certificate
from order_service.payments.base import Charge, Repayment, Unknown
from order_service.payments.http import HttpProvider

PAYMENT = UUID("0199b3f2-6c51-7e0a-9c3e-5f0a6d1b2c44")
REFUND = UUID("0199b3f7-0000-7000-8000-000000000001")
GOOD = {"payment_id": str(PAYMENT), "status": "captured", "amount": "20.00", "currency": "CNY"}
BACK = {
    "refund_id": str(REFUND),
    "payment_id": str(PAYMENT),
    "status": "done",
    "amount": "5.00",
    "currency": "CNY",
}
Behaviour = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def provider(
    behave: Behaviour, certificate: Path | None = None
) -> Iterator[tuple[HttpProvider, list[tuple[str, str, bytes]]]]:
    """Run a server that behaves like this; yield the provider that asks it, and what it was asked.

    It speaks TLS when there is a folder with its certificate.
    """
    asked: list[tuple[str, str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 65536

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked.append((self.command, self.path, body))
            behave(self)

        do_GET = do_PUT = do_POST = handle_any

        def log_message(self, *arguments: Any) -> None:
            """Keep quiet."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *arguments: Any) -> None:
            """Keep quiet about a caller who has hung up."""

    server = Server(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    url = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}/v1/"
    try:
        yield HttpProvider(url, key="the key", webhook_secret="the secret", seconds=1.0), asked
    finally:
        server.shutdown()
        server.server_close()


def answering(body: Any, status: int = 200, **headers: str) -> Behaviour:
    """Always answer this."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)

    def behave(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in ({"Content-Length": str(len(raw))} | headers).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(raw)
        handler.wfile.flush()

    return behave


def charge(asked: HttpProvider) -> Charge:
    """Take 20.00."""
    return asked.charge(PAYMENT, amount=Decimal("20.00"), currency="CNY", token="tok_1")


def refund(asked: HttpProvider) -> Repayment:
    """Give 5.00 back."""
    return asked.refund(REFUND, payment_id=PAYMENT, amount=Decimal("5.00"), currency="CNY")


def test_it_asks_as_the_page_says():
    with provider(answering(GOOD)) as (http, asked):
        charge(http)
        http.lookup(PAYMENT)
        http.cancel(PAYMENT)
        with pytest.raises(Unknown):
            refund(http)
    path = f"/v1/payments/{PAYMENT}"
    assert [(method, where) for method, where, _ in asked] == [
        ("PUT", path),
        ("GET", path),
        ("POST", f"{path}/cancel"),
        ("PUT", f"{path}/refunds/{REFUND}"),
    ]
    assert orjson.loads(asked[0][2]) == {"amount": "20.00", "currency": "CNY", "token": "tok_1"}
    assert orjson.loads(asked[3][2]) == {"amount": "5.00", "currency": "CNY"}


def test_it_shows_its_key():
    shown: list[str | None] = []

    def behave(handler: BaseHTTPRequestHandler) -> None:
        shown.append(handler.headers["Authorization"])
        answering(GOOD)(handler)

    with provider(behave) as (http, _):
        charge(http)
    assert shown == ["Bearer the key"]


@pytest.mark.parametrize("status", [200, 201, 202])
def test_captured_says_what_was_taken(status: int):
    with provider(answering(GOOD, status)) as (http, _):
        taken = Charge("captured", amount=Decimal("20.00"), currency="CNY")
        assert charge(http) == http.lookup(PAYMENT) == http.cancel(PAYMENT) == taken


@pytest.mark.parametrize("status", ["declined", "failed", "cancelled", "processing"])
def test_the_other_ends_need_no_amount(status: str):
    with provider(answering({"payment_id": str(PAYMENT), "status": status, "reason": None, "more": 1})) as (
        http,
        _,
    ):
        assert charge(http) == Charge(status)  # type: ignore[arg-type]


def test_a_reason_is_cut_and_cleaned():
    with provider(answering(GOOD | {"status": "declined", "reason": "no\x00 funds\n" + "x" * 999})) as (
        http,
        _,
    ):
        assert charge(http).reason == ("no  funds " + "x" * 999)[:500]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"captured",
        b"\xff\xfe",
        orjson.dumps(GOOD)[:-1],
        b"<html>" + b"x" * 100,
        GOOD | {"status": "paid"},
        GOOD | {"status": None},
        GOOD | {"payment_id": str(REFUND)},
        GOOD | {"payment_id": None},
        GOOD | {"amount": None},
        GOOD | {"amount": 20.0},
        GOOD | {"amount": "20.001"},
        GOOD | {"amount": "NaN"},
        GOOD | {"currency": None},
        GOOD | {"currency": "yuan"},
        GOOD | {"reason": "x" * 70_000},
        GOOD | {"status": "requires_action", "redirect_url": "javascript:alert(1)"},
        GOOD | {"status": "requires_action", "redirect_url": "https://bank.example/\x00"},
        GOOD | {"status": "requires_action", "client_secret": "a\x00b"},
    ],
)
def test_what_is_not_well_formed_leaves_it_open(body: Any):
    with provider(answering(body)) as (http, _):
        for ask in (lambda: charge(http), lambda: http.lookup(PAYMENT), lambda: http.cancel(PAYMENT)):
            with pytest.raises(Unknown):
                ask()


def test_the_log_names_what_was_not_well_formed_and_never_its_value(capsys: pytest.CaptureFixture[str]):
    odd = GOOD | {"status": "requires_action", "client_secret": "secret with spaces", "amount": "12,50"}
    with provider(answering(odd)) as (http, _), pytest.raises(Unknown, match="amount, client_secret"):
        charge(http)
    assert "secret with" not in capsys.readouterr().out


@pytest.mark.parametrize("status", [204, 301, 400, 401, 403, 404, 409, 422, 429, 500, 502, 503])
def test_any_other_status_leaves_it_open_whatever_the_body_says(status: int):
    headers = {"Location": "/v1/elsewhere"} if status == 301 else {}
    with provider(answering(GOOD, status, **headers)) as (http, asked):
        for ask in (
            lambda: charge(http),
            lambda: http.lookup(PAYMENT),
            lambda: http.cancel(PAYMENT),
            lambda: refund(http),
        ):
            with pytest.raises(Unknown):
                ask()
    assert len(asked) == 4


@pytest.mark.parametrize(
    ("body", "known"),
    [({"code": "payment_unknown"}, True), ({"code": "not_found"}, False), ({}, False), (b"Not Found", False)],
)
def test_only_the_providers_own_404_says_that_it_never_came(body: Any, known: bool):
    with provider(answering(body, 404)) as (http, _):
        if known:
            assert http.lookup(PAYMENT) is None
        else:
            with pytest.raises(Unknown):
                http.lookup(PAYMENT)
        with pytest.raises(Unknown):
            charge(http)


@pytest.mark.parametrize("status", ["done", "processing", "refused"])
def test_a_refund_is_what_the_provider_says(status: str):
    with provider(answering(BACK | {"status": status})) as (http, _):
        assert refund(http) == Repayment(status)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"refund_id": str(PAYMENT)},
        {"amount": "5.01"},
        {"currency": "USD"},
        {"status": "paid"},
        {"amount": None},
    ],
)
def test_an_answer_about_another_refund_leaves_it_open(changes: dict[str, Any]):
    with provider(answering(BACK | changes)) as (http, _), pytest.raises(Unknown):
        refund(http)


def test_a_kept_connection_that_went_stale_is_replaced():
    def behave(handler: BaseHTTPRequestHandler) -> None:
        answering(GOOD)(handler)
        handler.close_connection = True

    with provider(behave) as (http, asked):
        for _ in range(3):
            assert charge(http).status == "captured"
    assert len(asked) == 3


def silent(_handler: BaseHTTPRequestHandler) -> None:
    time.sleep(2.5)


def half(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"payment_id"')
    handler.wfile.flush()
    time.sleep(2.5)


def drip(handler: BaseHTTPRequestHandler, answer: bytes) -> None:
    for byte in answer:
        try:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
        except OSError:
            return
        time.sleep(0.1)


def dripping_head(handler: BaseHTTPRequestHandler) -> None:
    drip(handler, b"HTTP/1.1 200 OK\r\nX-Filler: " + b"x" * 40)


def dripping_body(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    drip(handler, b" " * 60)


@pytest.mark.parametrize("behave", [silent, half, dripping_head, dripping_body])
def test_who_does_not_finish_is_given_up_in_time(behave: Behaviour):
    with provider(behave) as (http, asked):
        started = time.monotonic()
        with pytest.raises(Unknown):
            charge(http)
        # The limit is 1 s here; a wait for the rest of a body may begin just before it ends.
        assert time.monotonic() - started < 2.2
        assert len(asked) == 1


def test_a_crowd_does_not_wait_for_a_silence_in_turns_and_pays_once_it_is_over():
    is_silent = threading.Event()
    is_silent.set()

    def behave(handler: BaseHTTPRequestHandler) -> None:
        (silent if is_silent.is_set() else answering(GOOD))(handler)

    def is_unknown(http: HttpProvider) -> bool:
        with suppress(Unknown):
            return charge(http).status != "captured"
        return True

    with provider(behave) as (http, _), ThreadPoolExecutor(16) as threads:
        started = time.monotonic()
        assert all(threads.map(lambda _: is_unknown(http), range(128)))
        # In turns it were 8 s.
        assert time.monotonic() - started < 6
        is_silent.clear()
        assert not is_unknown(http)


class TestTls:
    def test_a_certificate_that_nobody_vouches_for_gets_no_key(self, tmp_path: Path):
        make_certificate(tmp_path)
        with provider(answering(GOOD), tmp_path) as (http, asked), pytest.raises(Unknown):
            charge(http)
        assert asked == []

    @pytest.mark.parametrize(("behave", "status"), [(answering(GOOD), "captured"), (dripping_head, None)])
    def test_a_good_one_is_asked_and_waited_for_no_longer_than_others(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behave: Behaviour, status: str | None
    ):
        make_certificate(tmp_path)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
        with provider(behave, tmp_path) as (http, asked):
            started = time.monotonic()
            if status is None:
                with pytest.raises(Unknown):
                    charge(http)
            else:
                assert charge(http).status == charge(http).status == status
            assert time.monotonic() - started < 2.2
        assert len(asked) == (1 if status is None else 2)
