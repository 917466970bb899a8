"""What is for services and operators stays inside, however its address is spelled."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest

from tests.e2e.suite import Suite
from tests.security.insides import service_token
from tests.security.report import Report
from tests.security.wire import exchange

INSIDE = ("/internal/v1/admins", "/metrics")
SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": lambda p: p,
    "in capitals": str.upper,
    "with one capital": lambda p: p[:2].upper() + p[2:],
    "slash behind": lambda p: p + "/",
    "two slashes before": lambda p: "/" + p,
    "three slashes before": lambda p: "//" + p,
    "two slashes inside": lambda p: p.replace("/v1", "//v1") + "//",
    "dot segment": lambda p: "/." + p,
    "dot segment behind": lambda p: p + "/.",
    "down and up": lambda p: "/x/.." + p,
    "dot, encoded": lambda p: "/%2e" + p,
    "down and up, encoded": lambda p: "/x/%2e%2e" + p,
    "down and up, half encoded": lambda p: "/x/.%2E" + p,
    "first letter encoded": lambda p: f"/%{ord(p[1]):02x}{p[2:]}",
    "all letters encoded": lambda p: "".join(c if c == "/" else f"%{ord(c):02X}" for c in p),
    "slashes encoded": lambda p: "/" + quote(p[1:], safe=""),
    "first slash encoded": lambda p: "/%2f" + p[1:],
    "encoded twice": lambda p: f"/%25{ord(p[1]):02x}{p[2:]}",
    "parameters behind": lambda p: p + ";x=1",
    "parameters before": lambda p: "/;x=1" + p,
    "dots with parameters": lambda p: "/x/..;" + p,
    "backslash, encoded": lambda p: "/%5c" + p[1:],
    "backslash": lambda p: "/\\" + p[1:],
    "from the API": lambda p: "/api/v1/../.." + p,
    "from the API, encoded": lambda p: "/api/v1/%2e%2e/%2e%2e" + p,
    "from the API, slashes encoded": lambda p: "/api/v1/..%2f.." + quote(p, safe=""),
    "from the API, dots encoded twice": lambda p: "/api/v1/%252e%252e/%252e%252e" + p,
    "from the cart": lambda p: "/api/v1/cart/../../.." + p,
    "from notifications": lambda p: "/api/v1/notifications/%2e%2e/../.." + p,
    "under the API": lambda p: "/api/v1" + p,
    "under the API, two slashes": lambda p: "/api/v1/" + p,
    "from a product": lambda p: "/api/v1/products/1/../../../.." + p,
    "from users": lambda p: "/api/v1/users/../../.." + p,
    "from users, encoded": lambda p: "/api/v1/users/..%2f..%2f.." + quote(p, safe=""),
    "from users, mixed": lambda p: "/api/v1/users/%2e%2e/..%2f.." + p,
    "from the documents": lambda p: "/docs/.." + p,
    "from the documents, encoded": lambda p: "/docs/%2e%2e" + p,
    "from the documents, slash encoded": lambda p: "/docs/..%2f" + p[1:],
    "below a document": lambda p: "/docs/user-service.json" + p,
    "from a document": lambda p: "/docs/user-service.json/../.." + p,
    "below the keys": lambda p: "/.well-known/jwks.json" + p,
    "from the keys": lambda p: "/.well-known/.." + p,
    "from the keys, slashes encoded": lambda p: "/.well-known/jwks.json%2f..%2f.." + quote(p, safe=""),
    "below health": lambda p: "/health" + p,
    "from health": lambda p: "/health/.." + p,
    "dots too long for UTF-8": lambda p: "/x/%c0%ae%c0%ae" + p,
    "slash too long for UTF-8": lambda p: "/x/..%c0%af" + p[1:],
    "wide slash": lambda p: "/%ef%bc%8f" + p[1:],
    "wide letter": lambda p: f"/{quote(chr(ord(p[1]) + 0xFEE0))}{p[2:]}",
    "query behind": lambda p: p + "?x=/api/v1/products",
    "query of nothing": lambda p: p + "?",
    "question mark, encoded": lambda p: p + "%3fx",
    "hash, encoded": lambda p: p + "%23x",
    "blank behind": lambda p: p + "%20",
    "tab behind": lambda p: p + "%09",
    "line break behind": lambda p: p + "%0a",
    "line breaks and a header": lambda p: p + "%0d%0aX-Smuggled:%201",
    "ending": lambda p: p + ".json",
    "dot behind": lambda p: p + ".",
    "whole address": lambda p: "http://127.0.0.1" + p,
    "whole address of a service": lambda p: "http://user-service:5001" + p,
    "whole address of https": lambda p: "https://localhost" + p,
}
# What is no address at all is refused before it is looked up.
BROKEN = {
    "up from the root": "/..{path}",
    "percent sign without digits": "/x%2{path}",
    "percent sign behind": "{path}%",
    "NUL behind": "{path}%00",
    "NUL before": "/%00{path}",
    "bytes beyond ASCII": "/\xe9/..{path}",
}
# A path can lead inside by a header too, behind a proxy that believes it.
HEADERS = {
    "Host of a service": "Host: user-service:5001",
    "X-Original-URL": "X-Original-URL: {path}",
    "X-Rewrite-URL": "X-Rewrite-URL: {path}",
    "X-Forwarded-Prefix": "X-Forwarded-Prefix: {path}",
    "X-Forwarded-Uri": "X-Forwarded-Uri: {path}",
    "X-Accel-Redirect": "X-Accel-Redirect: {path}",
    "X-HTTP-Method-Override": "X-HTTP-Method-Override: GET",
    "Upgrade": "Connection: Upgrade\r\nUpgrade: h2c",
}
OTHER_METHODS = ("POST", "HEAD", "OPTIONS", "DELETE", "PURGE")


def ask(url: str, target: str, token: str, *headers: str, method: str = "GET") -> tuple[int, bytes]:
    """Ask for a target exactly as it is written, with a token that would be good inside."""
    lines = [f"{method} {target} HTTP/1.1", "Connection: close", f"Authorization: Bearer {token}", *headers]
    if not any(header.startswith("Host:") for header in headers):
        lines.append("Host: localhost")
    heard = exchange(url, "\r\n".join([*lines, "", ""]).encode("latin-1"))
    assert len(heard.statuses) == 1, (target, heard)
    return heard.statuses[0], heard.raw


@pytest.fixture(scope="module")
def token(running_suite: Suite) -> str:
    """Sign the token of a service that would be let in."""
    return service_token(running_suite.env, "NOTIFICATION_USER_KEY", scope="users.read")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_it_is_nowhere_however_it_is_spelled(
    running_suite: Suite, report: Report, token: str, spelling: str
) -> None:
    asked = [(url, p) for url in (running_suite.url, running_suite.https_url) for p in INSIDE]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda a: ask(a[0], SPELLINGS[spelling](a[1]), token), asked))
    for (url, path), (status, _) in zip(asked, answers, strict=True):
        scheme = url.split(":")[0]
        report.table("Spellings of what is inside × ports").add(spelling, f"{scheme} {path}", status)
    for status, raw in answers:
        assert status == 404, raw[:1000]
        assert json.loads(raw.partition(b"\r\n\r\n")[2])["code"] == "not_found"


@pytest.mark.parametrize("spelling", BROKEN)
def test_a_broken_spelling_is_refused(
    running_suite: Suite, report: Report, token: str, spelling: str
) -> None:
    for url in (running_suite.url, running_suite.https_url):
        for path in INSIDE:
            status, raw = ask(url, BROKEN[spelling].format(path=path), token)
            scheme = url.split(":")[0]
            report.table("Spellings of what is inside × ports").add(spelling, f"{scheme} {path}", status)
            assert status in (400, 404), raw[:1000]


def test_the_token_would_be_good_inside(running_suite: Suite, token: str) -> None:
    for path in INSIDE:
        assert ask(running_suite.service_urls["user-service"], path, token)[0] == 200


@pytest.mark.parametrize("name", HEADERS)
def test_no_header_leads_inside(running_suite: Suite, token: str, name: str) -> None:
    for path in INSIDE:
        for target in ("/nothing", path):
            status, raw = ask(running_suite.url, target, token, HEADERS[name].format(path=path))
            assert status == 404, raw[:1000]
        status, raw = ask(running_suite.url, "/health", token, HEADERS[name].format(path=path))
        assert (status, raw.partition(b"\r\n\r\n")[2]) == (200, b'{"status":"ok","service":"nginx"}')


@pytest.mark.parametrize("method", OTHER_METHODS)
def test_no_method_leads_inside(running_suite: Suite, token: str, method: str) -> None:
    for path in INSIDE:
        status, raw = ask(running_suite.url, path, token, "Content-Length: 0", method=method)
        assert status in (404, 405), raw[:1000]
        assert b"http_requests_total" not in raw


def test_the_documents_are_where_they_belong_alone(running_suite: Suite, token: str) -> None:
    assert ask(running_suite.url, "/openapi.json", token)[0] == 404
    assert ask(running_suite.url, "/docs/user-service.json", token)[0] == 200
