"""The end of all waits: a server that says each byte just in time holds a message no longer than another."""

import importlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from deploy.setup.certificate import make_certificate
from notification_service.channels import email, push
from notification_service.channels.email import SmtpMailer
from notification_service.channels.push import PushMessage, Target, WebPusher
from notification_service.errors import TemporaryFailure
from notification_service.rendering import Mail
from tests.notification.stubs import Browser

BUDGET = 0.6
PRIVATE_KEY = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE"
# Replies that never end: whoever waits for the next byte gets it every time.
HTTP = b"HTTP/1.1 100 Continue\r\n\r\n" * 1000
SMTP = b"220-hello\r\n" * 1000


@contextmanager
def dripping(reply: bytes, *, context: ssl.SSLContext | None = None, seconds: float = 5.0) -> Iterator[int]:
    """Serve whoever connects a byte every 50 ms, for so many seconds; yield the port."""
    ended = threading.Event()

    def drip(connection: socket.socket) -> None:
        ends = time.monotonic() + seconds
        try:
            with connection if context is None else context.wrap_socket(connection, server_side=True) as told:
                for byte in reply:
                    told.sendall(bytes([byte]))
                    if ended.wait(0.05) or time.monotonic() > ends:
                        return
        except OSError:
            """The other side has had enough, as it should."""

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        threading.Thread(target=lambda: drip(server.accept()[0]), daemon=True).start()
        yield server.getsockname()[1]
        ended.set()


@pytest.fixture
def context(tmp_path: Path, monkeypatch) -> ssl.SSLContext:
    """Return a server's TLS, with a certificate that is vouched for."""
    make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    return context


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(push, "SEND_SECONDS", BUDGET)
    monkeypatch.setattr(email, "MAIL_SECONDS", BUDGET)
    monkeypatch.setattr(email, "LEAST_SECONDS", 0.1)


@pytest.fixture(autouse=True, scope="module")
def _imported():
    """Import what the first push message imports before a clock runs."""
    importlib.import_module("pywebpush")


@contextmanager
def failing_in_time(reason: str) -> Iterator[None]:
    """Expect a temporary failure within the budget."""
    started = time.monotonic()
    with pytest.raises(TemporaryFailure, match=reason):
        yield
    assert time.monotonic() - started < BUDGET + 1


def send_push(settings, endpoint: str) -> None:
    target = Target(endpoint, **Browser(endpoint).subscription["keys"])
    WebPusher(settings).send(PRIVATE_KEY, target, PushMessage(uuid4(), "t", "b"))


class TestAPushServiceThatDrips:
    def test_is_left_in_time(self, settings):
        with dripping(HTTP) as port, failing_in_time("the push service took too long"):
            send_push(settings, f"http://127.0.0.1:{port}/x")

    def test_is_left_in_time_by_tls(self, settings, context):
        with dripping(HTTP, context=context) as port, failing_in_time("the push service took too long"):
            send_push(settings, f"https://127.0.0.1:{port}/x")

    def test_is_left_in_time_while_it_shakes_hands(self, settings):
        with dripping(b"\x16\x03\x03\x20\x00" + bytes(2000)) as port, failing_in_time("push service"):
            send_push(settings, f"https://127.0.0.1:{port}/x")


class TestAMailServerThatDrips:
    def test_is_left_in_time(self, settings):
        with dripping(SMTP) as port, failing_in_time("the mail server took too long"):
            mail(settings, port, "none")

    def test_is_left_in_time_by_tls(self, settings, context):
        with dripping(SMTP, context=context) as port, failing_in_time("the mail server took too long"):
            mail(settings, port, "ssl")


def mail(settings, port: int, tls: str) -> None:
    there = {"smtp_host": "127.0.0.1", "smtp_port": port, "smtp_tls": tls}
    SmtpMailer(settings.model_copy(update=there)).send(uuid4(), "a@example.com", Mail("s", "t", None))


@pytest.fixture
def black_holes(monkeypatch, clock) -> list[str]:
    """Let every name have 60 public addresses that answer nothing; return those that were tried."""
    tried: list[str] = []

    def create_connection(address, timeout):
        tried.append(address[0])
        # A wait ends a little late.
        clock.seconds += timeout + 0.01
        raise TimeoutError("timed out")

    found = [(2, 1, 6, "", (f"93.184.216.{number}", 443)) for number in range(1, 61)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr(socket, "create_connection", create_connection)
    return tried


def test_a_name_of_many_black_holes_costs_no_more_than_one(settings, black_holes, clock):
    monitored = settings.model_copy(update={"push_allow_private": False})
    with pytest.raises(TemporaryFailure, match="the push service took too long"):
        send_push(monitored, "https://push.example.com/x")
    assert clock.seconds == pytest.approx(BUDGET, abs=0.05)
    assert black_holes == ["93.184.216.1", "93.184.216.2", "93.184.216.3"]


def test_a_mail_server_of_many_black_holes_costs_no_more_than_one(settings, black_holes, clock):
    with pytest.raises(TemporaryFailure, match="the mail server took too long"):
        mail(settings, 25, "none")
    assert clock.seconds == pytest.approx(BUDGET, abs=0.05)
    assert len(black_holes) == 3


def test_the_first_address_that_answers_is_taken(settings, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as refusing:
        closed = refusing.getsockname()[1]
    with dripping(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n") as port:
        found = [(2, 1, 6, "", ("127.0.0.1", number)) for number in (closed, port)]
        monkeypatch.setattr(push, "SEND_SECONDS", 10.0)
        real = socket.getaddrinfo
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda host, *a, **k: found if host == "push.test" else real(host, *a, **k)
        )
        send_push(settings, f"http://push.test:{port}/x")
