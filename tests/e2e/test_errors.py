"""Bad input of every kind: always a problem document, never a fault, on every address."""

import http.client
import json
import ssl
from urllib.parse import urlsplit

import pytest

from tests.e2e.client import POOL, Client

JSON = {"Content-Type": "application/json"}
NOT_JSON = [
    *(b"{", b"{'a': 1}", b'{"a": 1,}', b"\xff\xfe", b'{"a": "\xff"}', b"[1, 2", b"nul", b"{}{}"),
    b"{" * 9000,
]
NOWHERE = [
    *("/nothing", "/favicon.ico", "/.env", "/.git/config", "/api/v1", "/api/v1/nothing", "/api/v2/products"),
    *("/api/v1/products/", "/api/v1/products/1/2/3"),
]
INSIDE = [
    *("/metrics", "/metrics/", "//metrics", "/api/v1/../../metrics", "/api/v1/%2e%2e/%2e%2e/metrics"),
    *("/internal", "/internal/v1/users/1", "/internal/v1/reservations", "/x/../internal/v1/users/1"),
    *("/api/v1//internal/v1/users/1", "/%69nternal/v1/users/1", "/internal%2fv1/users/1"),
]
OTHER_METHODS = [
    ("DELETE", "/login"),
    ("PATCH", "/products"),
    ("PUT", "/orders"),
    ("POST", "/notifications/history"),
    ("POST", "/profile"),
]


def ask(url, method, target, headers=None, body=None):
    """Send a request exactly as written: no client tidies the path."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=15)
    try:
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def is_problem(status, headers, raw, code=None):
    """Check a problem document that Nginx itself answered."""
    assert headers["Content-Type"].split(";")[0] == "application/problem+json", (status, headers, raw[:300])
    problem = json.loads(raw)
    assert problem["status"] == status
    assert set(problem) >= {"type", "title", "status", "detail", "code", "request_id"}
    assert problem["request_id"] == headers["X-Request-ID"]
    assert code is None or problem["code"] == code
    return problem


class TestBodies:
    @pytest.mark.parametrize("raw", NOT_JSON)
    def test_that_are_not_json_are_400(self, anyone, raw):
        anyone.send("POST", "/login", data=raw, headers=JSON).refused(400, "invalid_json")

    @pytest.mark.parametrize("raw", [b"[]", b'"text"', b"5", b"null", b"true", b"[[" * 400 + b"]]" * 400])
    def test_that_are_no_object_are_422(self, anyone, raw):
        reply = anyone.send("POST", "/login", data=raw, headers=JSON)
        assert reply.code in ("validation_error", "invalid_json")

    @pytest.mark.parametrize(
        "literal", [b"NaN", b"Infinity", b"-Infinity", b"1e400", b"1" * 5000, b'"\\ud800"']
    )
    def test_with_odd_values_are_refused(self, admin, literal):
        raw = b'{"name": "x", "price": "1.00", "stock": ' + literal + b"}"
        reply = admin.send("POST", "/products", data=raw, headers=JSON)
        assert reply.status in (400, 422)

    @pytest.mark.parametrize(
        "kind", ["text/plain", "application/x-www-form-urlencoded", "text/json", "", "nonsense"]
    )
    def test_of_another_media_type_are_415(self, anyone, kind):
        headers = {"Content-Type": kind} if kind else {}
        body = b'{"username": "a", "password": "b"}'
        anyone.send("POST", "/login", data=body, headers=headers).refused(415, "unsupported_media_type")

    @pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON"])
    def test_of_json_by_any_spelling_are_read(self, anyone, kind):
        body = b'{"username": "nobody-at-all", "password": "b"}'
        anyone.send("POST", "/login", data=body, headers={"Content-Type": kind}).refused(
            401, "invalid_credentials"
        )

    def test_beyond_one_mebibyte_are_413(self, anyone, running_suite):
        body = json.dumps({"username": "a" * (1024 * 1024), "password": "b"}).encode()
        for url in (running_suite.url, running_suite.service_urls["user-service"]):
            Client(url).send("POST", "/login", data=body, headers=JSON).refused(413, "payload_too_large")

    def test_just_below_one_mebibyte_are_read(self, anyone):
        body = json.dumps({"username": "a" * (1024 * 1024 - 60), "password": "b"}).encode()
        assert anyone.send("POST", "/login", data=body, headers=JSON).status in (401, 422)


class TestPaths:
    @pytest.mark.parametrize("path", NOWHERE)
    def test_that_lead_nowhere_are_404(self, anyone, path):
        anyone.get(path, prefix="").refused(404, "not_found")

    @pytest.mark.parametrize("target", INSIDE)
    def test_to_the_inside_are_closed(self, running_suite, target):
        status, headers, raw = ask(running_suite.url, "GET", target)
        assert status == 404, (status, raw[:300])
        is_problem(status, headers, raw, "not_found")

    @pytest.mark.parametrize(("method", "path"), OTHER_METHODS)
    def test_with_another_method_are_405(self, admin, method, path):
        reply = admin.send(method, path, json={})
        reply.refused(405, "method_not_allowed")
        assert reply.headers["Allow"]

    def test_that_are_too_long_are_a_problem_too(self, running_suite):
        status, headers, raw = ask(running_suite.url, "GET", "/api/v1/products?q=" + "x" * 40_000)
        assert status == 414
        is_problem(status, headers, raw)

    @pytest.mark.parametrize("method", ["TRACE", "BREW", "CONNECT"])
    def test_with_a_method_of_nobodys_are_refused(self, running_suite, method):
        status, headers, raw = ask(running_suite.url, method, "/api/v1/products")
        assert status in (400, 405, 501)
        is_problem(status, headers, raw)

    def test_with_headers_that_are_too_large_are_a_problem_too(self, running_suite):
        status, headers, raw = ask(running_suite.url, "GET", "/api/v1/products", {"X-Large": "x" * 60_000})
        assert status in (400, 431, 494)
        is_problem(status, headers, raw)


class TestRequestId:
    @pytest.mark.parametrize("sent", ["a", "A-b_9", "x" * 128])
    def test_is_taken_over(self, anyone, sent):
        for path in ("/products", "/nothing", "/profile"):
            assert anyone.get(path, headers={"X-Request-ID": sent}).headers["X-Request-ID"] == sent

    @pytest.mark.parametrize("sent", ["x" * 129, "has space", "semi;colon", "é", "<b>", "", "a.b"])
    def test_is_made_anew_when_it_is_no_good(self, anyone, sent):
        for path in ("/products", "/nothing"):
            got = anyone.get(path, headers={"X-Request-ID": sent.encode().decode("latin-1")}).headers[
                "X-Request-ID"
            ]
            assert got != sent

    def test_differs_from_request_to_request(self, anyone):
        assert len({anyone.get("/products").headers["X-Request-ID"] for _ in range(5)}) == 5

    def test_is_on_what_nginx_answers(self, running_suite):
        answer = POOL.request(
            "GET", f"{running_suite.url}/metrics", headers={"X-Request-ID": "mine"}, redirect=False
        )
        assert answer.headers["X-Request-ID"] == "mine"


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_https_answers_like_http(running_suite):
    secure = Client(running_suite.https_url)
    secure.get("/products").expect(200)
    secure.get("/nothing").refused(404, "not_found")
    parts = urlsplit(running_suite.https_url)
    certificate = ssl.get_server_certificate((parts.hostname, parts.port or 443))
    assert "BEGIN CERTIFICATE" in certificate


def test_plain_http_on_the_https_port_is_a_problem_too(running_suite):
    url = running_suite.https_url.replace("https://", "http://")
    status, headers, raw = ask(url, "GET", "/api/v1/products")
    assert status == 400
    is_problem(status, headers, raw)
