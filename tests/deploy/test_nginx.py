"""What Nginx makes of a request, seen through a real Nginx in front of a service that tells what it got."""

import http.client
import json
import os
import re
import ssl
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.deploy.proxy import (
    OWN_POLICY,
    SERVICES,
    Proxy,
    assert_common_headers,
    assert_problem,
    run_proxy,
)
from tests.servers import REPOSITORY

ROUTES = {
    "user": """
        /api/v1/register /api/v1/login /api/v1/token/refresh /api/v1/logout /api/v1/sessions/x
        /api/v1/profile /api/v1/profile/addresses/1 /api/v1/password/forgot /api/v1/email/verify
        /api/v1/users/1 /.well-known/jwks.json /docs /docs/static/page.css
        """,
    "product": """
        /api/v1/products /api/v1/products/1 /api/v1/products/1/stock/movements /api/v1/products/1/image
        /api/v1/products/import /api/v1/categories /api/v1/categories/1
        """,
    "order": """
        /api/v1/cart /api/v1/cart/items/1 /api/v1/orders /api/v1/orders/x/pay /api/v1/admin/orders/x
        /api/v1/admin/reports/sales /api/v1/payments/methods /api/v1/payments/webhooks/sandbox
        """,
    "notification": "/api/v1/notifications/email /api/v1/notifications/push/public-key",
}
NOT_PUBLIC = """
    /internal /internal/v1/reservations /INTERNAL/v1 /metrics /Metrics /metrics/ //metrics /%69nternal/v1
    /m%65trics /%2Fmetrics /api/../metrics /api/%2e%2e/metrics /./metrics /metrics/../api/v1/products
    /api/v1/products/../../../internal/v1/reservations /internal/v1/../../api/v1/products
    /internal/..%2fapi/v1/products /api/v1/products/%2E%2e/%2e%2E/%2e./metrics /api/v1/products/..
    /api /api/v1 /api/v1/productsx /api/v2/products /index.php /openapi.json /health/live /_problem /docsx
    """


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    with run_proxy() as proxy:
        yield proxy


@pytest.mark.parametrize(
    ("service", "path"), [(name, path) for name in ROUTES for path in ROUTES[name].split()]
)
def test_each_public_route_reaches_its_service(proxy: Proxy, service: str, path: str) -> None:
    status, headers, body = proxy.request(path + "?a=%2F&b=c")
    assert status == 200
    assert json.loads(body)["service"] == f"{service}-service"
    assert json.loads(body)["path"] == path + "?a=%2F&b=c"
    assert_common_headers(headers)


@pytest.mark.parametrize("service", SERVICES)
def test_each_document_comes_from_its_service(proxy: Proxy, service: str) -> None:
    status, _, body = proxy.request(f"/docs/{service}-service.json")
    got = json.loads(body)
    assert (status, got["service"], got["path"]) == (200, f"{service}-service", "/openapi.json")


@pytest.mark.parametrize("path", NOT_PUBLIC.split())
def test_nothing_else_is_public(proxy: Proxy, path: str) -> None:
    before = sum(len(echo.seen) for echo in proxy.echoes.values())  # type: ignore[attr-defined]
    assert_problem(proxy.request(path), 404, "not_found")
    assert sum(len(echo.seen) for echo in proxy.echoes.values()) == before  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "path", ["/metrics", "/internal/v1/reservations", "/health", "/openapi.json", "/any%2Fthing?x=1"]
)
def test_a_services_own_port_passes_everything(proxy: Proxy, path: str) -> None:
    for service, port in proxy.service_ports.items():
        status, _, body = proxy.request(path, port=port)
        got = json.loads(body)
        assert (status, got["service"], got["path"]) == (200, f"{service}-service", path)


def test_the_entrance_leads_to_the_documents(proxy: Proxy) -> None:
    status, headers, _ = proxy.request("/")
    assert (status, headers["Location"]) == (302, "/docs")
    assert_common_headers(headers)


def test_health_is_answered_by_nginx_itself(proxy: Proxy) -> None:
    status, headers, body = proxy.request("/health")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(body)["status"] == "ok"
    assert_common_headers(headers)
    answer = proxy.request("/health", "POST")
    assert_problem(answer, 405, "method_not_allowed")
    assert answer[1]["Allow"] == "GET, HEAD"


def test_the_request_id_of_the_client_is_taken_over(proxy: Proxy) -> None:
    for path in ("/api/v1/products", "/nowhere"):
        _, headers, body = proxy.request(path, X_Request_ID="a-Z_9" * 25)
        assert headers.get_all("X-Request-ID") == ["a-Z_9" * 25]
        got = json.loads(body)
        assert got.get("request_id", got.get("headers", {}).get("x-request-id")) == "a-Z_9" * 25


@pytest.mark.parametrize("sent", ["", "x" * 129, "a b", 'a"b', "a{b}", "é", "../etc", "a;b"])
def test_a_harmful_request_id_is_replaced(proxy: Proxy, sent: str) -> None:
    _, headers, body = proxy.request("/api/v1/products", X_Request_ID=sent)
    assert re.fullmatch("[0-9a-f]{32}", headers["X-Request-ID"])
    assert json.loads(body)["headers"]["x-request-id"] == headers["X-Request-ID"]
    assert_problem(proxy.request("/nowhere", X_Request_ID=sent), 404, "not_found")


@pytest.mark.parametrize("entrance", ["port", "tls_port", "user", "product", "order", "notification"])
def test_what_the_client_says_of_itself_is_overwritten(proxy: Proxy, entrance: str) -> None:
    port = proxy.service_ports.get(entrance) or getattr(proxy, entrance)
    _, _, body = proxy.request(
        "/api/v1/products",
        port=port,
        X_Forwarded_For="6.6.6.6",
        X_Forwarded_Proto="gopher",
        X_Forwarded_Host="evil.example",
        X_Forwarded_Prefix="/evil",
        X_Real_IP="6.6.6.6",
        Forwarded="for=6.6.6.6",
        Proxy="http://evil.example",
    )
    got = json.loads(body)["headers"]
    host, scheme = f"127.0.0.1:{port}", "https" if port == proxy.tls_port else "http"
    assert (got["x-forwarded-for"], got["x-real-ip"]) == ("127.0.0.1", "127.0.0.1")
    assert got["x-forwarded-proto"] == scheme
    assert (got["host"], got["x-forwarded-host"]) == (host, host)
    assert not {"x-forwarded-prefix", "forwarded", "proxy"} & set(got)


def test_a_service_keeps_its_own_answer_and_policy(proxy: Proxy) -> None:
    status, headers, body = proxy.request("/api/v1/products/refused")
    assert (status, json.loads(body)["path"]) == (409, "/api/v1/products/refused")
    assert_common_headers(headers)
    _, headers, _ = proxy.request("/docs")
    assert headers.get_all("Content-Security-Policy") == [OWN_POLICY]


def test_large_bodies_pass_only_where_they_belong(proxy: Proxy) -> None:
    mebibyte = 1024 * 1024
    limits = {
        "/api/v1/orders": mebibyte,
        "/api/v1/products": mebibyte,
        "/api/v1/products/7/image": 6 * mebibyte,
        "/api/v1/products/import": 100 * mebibyte,
    }
    for path, limit in limits.items():
        if limit <= 6 * mebibyte:
            status, _, body = proxy.request(path, "POST", body=b"x" * limit)
            assert (status, json.loads(body)["received"]) == (200, limit)
        # Nginx refuses by the announced length, before it reads.
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {limit + 1}\r\nConnection: close\r\n\r\n"
        assert_problem(proxy.raw(head.encode()), 413, "payload_too_large")


@pytest.mark.parametrize("service", [None, *SERVICES])
def test_a_large_body_in_chunks_is_refused_too(proxy: Proxy, service: str | None) -> None:
    # By Nginx itself: a service that refuses what is still on its way may break the connection.
    port = proxy.service_ports[service] if service else proxy.port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    connection.request("POST", "/api/v1/orders", iter([b"x" * 65536] * 17), encode_chunked=True)
    answer = connection.getresponse()
    assert_problem((answer.status, answer.headers, answer.read()), 413, "payload_too_large")
    connection.close()


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"GET /api HTTP/1.1\r\n\r\n", 400, "bad_request"),
        (b"GET nonsense HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_request"),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400, "bad_request"),
        (b"GET /%00 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 400, "bad_request"),
        (
            "GET /api/v1/products?q=茶 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode(),
            400,
            "bad_request",
        ),
        (b"GET /../.. HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400, "bad_request"),
        (b"GET /" + b"x" * 20000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "uri_too_long"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20000 + b"\r\n\r\n", 431, "headers_too_large"),
        (b"TRACE /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405, "method_not_allowed"),
        (
            b"POST /api/v1/orders HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: odd\r\n\r\n",
            501,
            "not_implemented",
        ),
        (b"GET / HTTP/3.7\r\nHost: x\r\n\r\n", 505, "http_version_not_supported"),
    ],
)
def test_a_malformed_request_gets_a_problem(proxy: Proxy, sent: bytes, status: int, code: str) -> None:
    assert_problem(proxy.raw(sent), status, code)


def test_http_on_the_port_of_https_gets_a_problem(proxy: Proxy) -> None:
    request = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert_problem(proxy.raw(request, proxy.tls_port), 400, "bad_request")


def test_https_answers(proxy: Proxy) -> None:
    context = ssl.create_default_context(cafile=str(proxy.folder / "tls/cert.pem"))
    connection = http.client.HTTPSConnection("localhost", proxy.tls_port, timeout=10, context=context)
    connection.request("GET", "/api/v1/products")
    assert json.loads(connection.getresponse().read())["headers"]["x-forwarded-proto"] == "https"
    connection.close()


def test_a_service_that_is_gone_gets_a_problem_at_once(proxy: Proxy) -> None:
    echo = proxy.echoes["notification"]
    echo.shutdown()
    echo.server_close()
    started = time.monotonic()
    answer = proxy.request("/api/v1/notifications/history")
    assert time.monotonic() - started < 3
    assert_problem(answer, 502, "bad_gateway")
    assert answer[1]["Retry-After"] == "2"


@pytest.mark.parametrize(("method", "times"), [("POST", 1), ("PATCH", 1), ("GET", 2), ("PUT", 2)])
def test_a_request_that_broke_off_is_sent_again_only_where_that_does_no_harm(
    proxy: Proxy, method: str, times: int
) -> None:
    path = f"/api/v1/products/{method}/broken"
    body = None if method == "GET" else b"{}"
    assert_problem(proxy.request(path, method, body=body), 502, "bad_gateway")
    assert proxy.echoes["product"].seen.count(path) == times  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", ["POST", "PATCH", "GET", "PUT", "DELETE"])
def test_a_replica_that_cannot_be_reached_costs_no_request(proxy: Proxy, method: str) -> None:
    seen = proxy.echoes["order"].seen  # type: ignore[attr-defined]
    path = f"/api/v1/orders/{method}"
    body = None if method == "GET" else b"{}"
    assert [proxy.request(path, method, body=body)[0] for _ in range(6)] == [200] * 6
    assert seen.count(path) == 6


def test_json_is_compressed_for_those_who_ask(proxy: Proxy) -> None:
    _, headers, body = proxy.request("/api/v1/products", Accept_Encoding="gzip")
    assert (headers["Content-Encoding"], headers["Vary"]) == ("gzip", "Accept-Encoding")
    assert len(body) < 1500


def test_each_request_is_one_line_of_json_without_its_query(proxy: Proxy) -> None:
    proxy.request(
        "/api/v1/email/verify?token=secret", X_Request_ID="in-the-log", Referer="http://x/?token=secret"
    )
    proxy.request('/nowhere/"\\?token=secret', X_Request_ID="also-in-the-log")
    proxy.raw(b"GET\r\n\r\n")
    time.sleep(0.1)
    lines = {line["request_id"]: line for line in proxy.log_lines()}
    line = lines["in-the-log"]
    assert (line["path"], line["status"], line["method"]) == ("/api/v1/email/verify", 200, "GET")
    assert (lines["also-in-the-log"]["path"], lines["also-in-the-log"]["status"]) == ('/nowhere/"\\', 404)
    assert "secret" not in (proxy.folder / "logs/access.log").read_text()


def test_bytes_beyond_ascii_never_spoil_a_line_of_the_log(proxy: Proxy) -> None:
    proxy.request("/nowhere", X_Request_ID="odd-agent", User_Agent="\xff\xfe")
    proxy.request("/nowhere", X_Request_ID="odd-host", Host="\xff.example.com")
    lines = {line["request_id"]: line for line in proxy.log_lines()}
    assert lines["odd-agent"]["user_agent"] == "(not ASCII)"
    assert lines["odd-host"]["host"] in ("(not ASCII)", "_")


def test_a_log_that_has_grown_is_rotated(proxy: Proxy) -> None:
    log = proxy.folder / "logs/access.log"
    names = [f"access.log.{number}" for number in (1, 2, 3, 4)]
    for name in names:
        (log.parent / name).write_text(f"{name} before\n")
    os.truncate(log, 16 * 1024 * 1024)
    script = [str(REPOSITORY / "nginx/rotate-logs.sh"), str(log.parent), str(proxy.folder / "nginx.pid")]
    with subprocess.Popen(script) as process:
        try:
            deadline = time.monotonic() + 15
            while not log.exists() or log.stat().st_size > 1024 * 1024:
                assert time.monotonic() < deadline, "nothing was rotated"
                time.sleep(0.2)
        finally:
            process.terminate()
    proxy.request("/health", X_Request_ID="after-rotation")
    time.sleep(0.1)
    assert proxy.log_lines()[-1]["request_id"] == "after-rotation"
    assert sorted(path.name for path in log.parent.glob("access.log*")) == ["access.log", *names]
    assert (log.parent / "access.log.4").read_text() == "access.log.3 before\n"
