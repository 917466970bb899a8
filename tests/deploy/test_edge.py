"""What Nginx demands of clients and tells browsers: limits, TLS, headers, other origins."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.setup.certificate import make_certificate
from tests.deploy.proxy import (
    SERVICES,
    Answer,
    Proxy,
    assert_common_headers,
    assert_problem,
    print_settings,
    run_proxy,
)

CLASSES = {
    "LOGIN": ("POST", "/api/v1/login /api/v1/register /api/v1/password/forgot /api/v1/password/reset"),
    "WRITE": ("POST", "/api/v1/orders /api/v1/logout /api/v1/notifications/email /api/v1/token/refresh"),
    "READ": ("GET", "/api/v1/products /api/v1/cart /api/v1/profile /.well-known/jwks.json"),
    "DOCS": ("GET", "/docs /docs/page.css /docs/user-service.json /docs/order-service.json"),
}
ORIGINS = ("https://shop.example", "http://localhost:5173")
STRANGERS = """
    https://evil.example https://shop.example.evil.example https://evilshop.example http://shop.example
    https://shop.example:8443 https://shop-example https://shopXexample null HTTPS://SHOP.EXAMPLE
    http://localhost:51730 http://localhost
    """
ASKED = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "authorization"}


def limited(answer: Answer, seconds: str) -> None:
    """Check one refusal."""
    assert_problem(answer, 429, "rate_limited")
    assert answer[1]["Retry-After"] == seconds


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_of_routes_has_a_limit_of_its_own(name: str) -> None:
    method, paths = CLASSES[name]
    # Three at once pass, and then one every 20 s.
    with run_proxy(**{f"EDGE_LIMIT_{name}": "3"}) as proxy:
        answers = [proxy.request(path, method) for path in paths.split()]
        answers.append(proxy.request(paths.split()[0], method, port=proxy.tls_port))
        assert [status for status, _, _ in answers] == [200, 200, 200, 200, 429]
        limited(answers[-1], "20")
        others = [CLASSES[other] for other in CLASSES if other != name]
        assert [proxy.request(paths.split()[0], method)[0] for method, paths in others] == [200] * 3
        assert proxy.request("/health")[0] == 200


def test_no_header_makes_somebody_else_of_a_client_in_any_port() -> None:
    with run_proxy(EDGE_LIMIT_READ="2") as proxy:
        statuses = [
            proxy.request(
                "/api/v1/products",
                port=port,
                X_Forwarded_For=f"203.0.113.{number}",
                X_Real_IP=f"203.0.113.{number}",
                Forwarded=f"for=203.0.113.{number}",
            )[0]
            for number, port in enumerate((proxy.service_ports["product"], *proxy.ports))
        ]
        assert statuses == [200, 200, 200, 429, 429, 429, 429]


def test_another_address_has_a_limit_of_its_own() -> None:
    with run_proxy(EDGE_LIMIT_READ="1") as proxy:
        for _ in range(2):
            proxy.request("/api/v1/products")
        limited(proxy.request("/api/v1/products"), "60")
        head = b"GET /api/v1/products HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        address = ("127.0.0.1", proxy.port)
        with socket.create_connection(address, timeout=15, source_address=("127.0.0.2", 0)) as other:
            other.sendall(head)
            assert other.recv(12) == b"HTTP/1.1 200"


def test_webhooks_of_a_provider_count_as_reads() -> None:
    with run_proxy(EDGE_LIMIT_WRITE="1") as proxy:
        path = "/api/v1/payments/webhooks/sandbox"
        assert [proxy.request(path, "POST")[0] for _ in range(5)] == [200] * 5


def test_one_address_has_so_many_requests_at_once() -> None:
    with run_proxy(EDGE_LIMIT_CONNECTIONS="2") as proxy:
        held = [proxy.connect(proxy.port) for _ in range(2)]
        for connection in held:
            # The body keeps coming and never ends, so the request stays.
            connection.putrequest("POST", "/api/v1/orders")
            connection.putheader("Content-Length", "1000")
            connection.endheaders(b"1")
        deadline = threading.Event()
        for _ in range(50):
            answer = proxy.request("/api/v1/products")
            if answer[0] == 429:
                break
            for connection in held:
                connection.send(b"1")
            deadline.wait(0.1)
        limited(answer, "1")
        for connection in held:
            connection.close()


def test_without_limits_a_flood_passes() -> None:
    with run_proxy(EDGE_LIMIT_READ="0", EDGE_LIMIT_CONNECTIONS="0") as proxy:
        connection = proxy.connect(proxy.port)
        statuses = set()
        for _ in range(500):
            connection.request("GET", "/api/v1/products")
            answer = connection.getresponse()
            answer.read()
            statuses.add(answer.status)
        connection.close()
        assert statuses == {200}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EDGE_LIMIT_LOGIN", "-1"),
        ("EDGE_LIMIT_READ", "10r/s"),
        ("EDGE_LIMIT_WRITE", "1;"),
        ("EDGE_LIMIT_CONNECTIONS", "99999999999"),
        ("HSTS_SECONDS", "a year"),
        ("CORS_ORIGINS", "*"),
        ("CORS_ORIGINS", "null"),
        ("CORS_ORIGINS", "https://shop.example/"),
        ("CORS_ORIGINS", "https://Shop.example"),
        ("CORS_ORIGINS", "shop.example"),
        ("CORS_ORIGINS", "https://shop.example,https://*.example"),
        ("CORS_ORIGINS", 'https://x";}'),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(name: str, value: str) -> None:
    refused = print_settings(**{name: value})
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"{name} in .env must ")
    assert len(refused.stderr.splitlines()) == 1


def test_leading_zeros_are_no_octal_numbers() -> None:
    assert "rate=8r/m" in print_settings(EDGE_LIMIT_READ="008").stdout


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    with run_proxy(CORS_ORIGINS=",".join(ORIGINS), HSTS_SECONDS="63072000") as proxy:
        yield proxy


@pytest.fixture(scope="module")
def closed() -> Iterator[Proxy]:
    """Yield an Nginx with the settings of the example."""
    with run_proxy() as proxy:
        yield proxy


@pytest.mark.parametrize("path", ["/api/v1/products", "/nowhere", "/health", "/docs", "/"])
def test_only_https_tells_browsers_to_come_back_by_https(proxy: Proxy, path: str) -> None:
    _, headers, _ = proxy.request(path, port=proxy.tls_port)
    assert headers.get_all("Strict-Transport-Security") == ["max-age=63072000"]
    assert_common_headers(headers)
    for port in (proxy.port, proxy.service_ports["user"]):
        assert proxy.request(path, port=port)[1].get_all("Strict-Transport-Security") is None


def test_it_can_be_left_out(closed: Proxy) -> None:
    assert closed.request("/health", port=closed.tls_port)[1]["Strict-Transport-Security"] is None


@pytest.mark.parametrize("service", SERVICES)
def test_a_services_own_port_sends_the_same_headers(proxy: Proxy, service: str) -> None:
    for path in ("/api/v1/products", "/health", "/metrics", "/openapi.json", "/api/v1/orders/broken"):
        assert_common_headers(proxy.request(path, "POST", port=proxy.service_ports[service])[1])


def test_an_answer_that_is_no_page_may_load_nothing(proxy: Proxy) -> None:
    for path in ("/api/v1/products", "/api/v1/nowhere", "/.well-known/jwks.json", "/health"):
        policy = proxy.request(path)[1]["Content-Security-Policy"]
        assert policy.startswith("default-src 'none';")


def test_a_page_may_load_what_is_the_shops_own(proxy: Proxy) -> None:
    policy = proxy.request("/")[1]["Content-Security-Policy"]
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split("; ")}
    assert rules["default-src"] == ["'self'"]
    assert rules["object-src"] == ["'none'"]
    # No script but files of the shop's own.
    assert "script-src" not in rules
    assert "'unsafe-eval'" not in policy


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("path", ["/api/v1/products", "/api/v1/products/refused", "/nowhere", "/health"])
def test_a_listed_origin_may_read_answers_and_errors(proxy: Proxy, path: str, origin: str) -> None:
    for port in (proxy.port, proxy.tls_port, proxy.service_ports["order"]):
        _, headers, _ = proxy.request(path, port=port, Origin=origin)
        assert headers.get_all("Access-Control-Allow-Origin") == [origin]
        assert headers["Access-Control-Allow-Credentials"] is None
        assert "Origin" in headers.get_all("Vary", [])
        exposed = set(headers["Access-Control-Expose-Headers"].split(", "))
        assert exposed >= {"X-Request-ID", "Location", "ETag", "Retry-After", "Idempotent-Replayed"}
        assert_common_headers(headers)


@pytest.mark.parametrize("origin", ORIGINS)
def test_a_listed_origin_is_told_what_it_may_send(proxy: Proxy, origin: str) -> None:
    seen = proxy.echoes["order"].seen  # type: ignore[attr-defined]
    before = len(seen)
    for path in ("/api/v1/orders", "/api/v1/orders/x/pay"):
        status, headers, body = proxy.request(path, "OPTIONS", Origin=origin, **ASKED)
        assert (status, body) == (204, b"")
        assert headers["Access-Control-Allow-Origin"] == origin
        assert set(headers["Access-Control-Allow-Methods"].split(", ")) >= {"PUT", "PATCH", "DELETE", "POST"}
        allowed = set(headers["Access-Control-Allow-Headers"].split(", "))
        assert allowed >= {"Authorization", "Content-Type", "Idempotency-Key", "If-Match", "X-Request-ID"}
        assert "Origin" in headers.get_all("Vary", [])
    assert len(seen) == before


@pytest.mark.parametrize("origin", STRANGERS.split())
def test_no_other_origin_is_told_anything(proxy: Proxy, origin: str) -> None:
    for method, asked in (("GET", {}), ("OPTIONS", ASKED)):
        _, headers, _ = proxy.request("/api/v1/categories", method, Origin=origin, **asked)
        assert not [name for name in headers if name.lower().startswith("access-control-")]
        assert "Origin" in headers.get_all("Vary", [])


@pytest.mark.parametrize("origin", [*ORIGINS, "null", "*"])
def test_without_origins_every_page_but_the_shops_own_is_shut_out(closed: Proxy, origin: str) -> None:
    for method, asked in (("GET", {}), ("OPTIONS", ASKED)):
        _, headers, _ = closed.request("/api/v1/categories", method, Origin=origin, **asked)
        assert not [name for name in headers if name.lower().startswith("access-control-")]
        assert headers.get_all("Vary", []) in ([], ["Accept-Encoding"])


def shake_hands(proxy: Proxy, **limits: object) -> ssl.SSLSocket:
    """Shake hands as a client that offers no more than `limits`."""
    context = ssl.create_default_context(cafile=str(proxy.folder / "tls/cert.pem"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    for name, value in limits.items():
        if callable(setter := getattr(context, name)):
            setter(value)
        else:
            setattr(context, name, value)
    plain = socket.create_connection(("127.0.0.1", proxy.tls_port), timeout=15)
    return context.wrap_socket(plain, server_hostname="localhost")


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_today_s_versions_of_tls_are_spoken(proxy: Proxy, version: str) -> None:
    wanted = ssl.TLSVersion[version]
    with shake_hands(proxy, maximum_version=wanted, minimum_version=wanted) as connection:
        assert connection.version() == version.replace("_", ".")
        assert re.search("GCM|CHACHA20", connection.cipher()[0])  # type: ignore[index]


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_older_versions_of_tls_are_refused(proxy: Proxy, version: str) -> None:
    wanted = ssl.TLSVersion[version]
    with pytest.raises((ssl.SSLError, ConnectionError)):
        shake_hands(proxy, minimum_version=wanted, maximum_version=wanted)


@pytest.mark.parametrize(
    "ciphers", ["AES128-SHA:AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384"]
)
def test_ciphers_without_forward_secrecy_or_authentication_are_refused(proxy: Proxy, ciphers: str) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        shake_hands(proxy, maximum_version=ssl.TLSVersion.TLSv1_2, set_ciphers=ciphers)


@pytest.mark.parametrize(
    ("group", "taken"), [("X25519", True), ("prime256v1", True), ("secp384r1", True), ("secp521r1", False)]
)
def test_only_the_profiles_curves_are_taken(proxy: Proxy, group: str, taken: bool) -> None:
    # Not every Python can be told to offer X25519 alone.
    asked = ["openssl", "s_client", "-connect", f"127.0.0.1:{proxy.tls_port}", "-groups", group]
    done = subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=30)
    assert (done.returncode == 0) is taken, done.stderr


@pytest.mark.parametrize(
    ("built", "known"),
    [("3.0.15", False), ("3.4.1", False), ("3.5.0", True), ("3.10.2", True), ("4.0.1", True)],
)
def test_the_hybrid_group_is_offered_where_openssl_knows_it(tmp_path: Path, built: str, known: bool) -> None:
    fake = tmp_path / "nginx"
    fake.write_text(f"#!/bin/sh\necho 'built with OpenSSL {built} 1 Jan 2026' >&2\n")
    fake.chmod(0o755)
    printed = print_settings(PATH=f"{tmp_path}:{os.environ['PATH']}").stdout
    groups = ("X25519MLKEM768:" if known else "") + "X25519:prime256v1:secp384r1"
    assert f"ssl_ecdh_curve {groups};" in printed


def test_no_session_ticket_is_given_out(proxy: Proxy) -> None:
    with shake_hands(proxy, maximum_version=ssl.TLSVersion.TLSv1_2) as connection:
        session = connection.session
        assert session is not None
        assert not session.has_ticket


def test_who_comes_back_by_tls_1_2_need_not_shake_hands_in_full(proxy: Proxy) -> None:
    context = ssl.create_default_context(cafile=str(proxy.folder / "tls/cert.pem"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    reused, session = [], None
    for _ in range(2):
        plain = socket.create_connection(("127.0.0.1", proxy.tls_port), timeout=15)
        with context.wrap_socket(plain, server_hostname="localhost", session=session) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200"
            session = connection.session
            reused.append(connection.session_reused)
    assert reused == [False, True]


def test_a_certificate_that_was_replaced_counts_after_a_reload() -> None:
    with run_proxy() as proxy:
        tls = proxy.folder / "tls"
        before = ssl.get_server_certificate(("127.0.0.1", proxy.tls_port))
        for name in ("cert.pem", "key.pem"):
            (tls / name).unlink()
        make_certificate(tls, "https://renewed.example")
        pid = int((proxy.folder / "nginx.pid").read_text())
        os.kill(pid, signal.SIGHUP)
        pause = threading.Event()
        for _ in range(100):
            if ssl.get_server_certificate(("127.0.0.1", proxy.tls_port)) != before:
                break
            pause.wait(0.1)
        assert ssl.get_server_certificate(("127.0.0.1", proxy.tls_port)) == (tls / "cert.pem").read_text()


def test_the_answer_to_a_listed_origin_is_json_like_any_other(proxy: Proxy) -> None:
    _, headers, body = proxy.request("/api/v1/products", Origin=ORIGINS[0])
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body)["headers"]["origin"] == ORIGINS[0]
