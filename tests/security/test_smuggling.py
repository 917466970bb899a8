"""Requests that two parsers might cut apart at different places, on raw connections.

Each carries a second request where one reading sees a body and another sees the next request. It is refused,
or read as one request; what is hidden in it never reaches a service, which the logs show.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from secrets import token_hex

import pytest

from tests.e2e.client import eventually
from tests.e2e.suite import SERVICES, Suite
from tests.security.report import Report
from tests.security.wire import Heard, exchange, find_in_logs

TARGET = "/api/v1/token/refresh"


def hidden(marker: str) -> str:
    """Write the request that must never arrive."""
    return f"GET {TARGET} HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: {marker}\r\n\r\n"


def request(*headers: str, body: str = "", line: str = f"POST {TARGET} HTTP/1.1", end: str = "\r\n") -> bytes:
    """Write a request with just these headers; letters are bytes."""
    lines = [line, "Host: localhost", *headers]
    return (end.join(lines) + end + end + body).encode("latin-1")


def chunked(text: str, extension: str = "") -> str:
    """Write a body in one chunk, and its end."""
    return f"{len(text):x}{extension}\r\n{text}\r\n0\r\n\r\n"


def _length(value: str) -> Callable[[str], bytes]:
    """Hide the request in a body whose length is written oddly."""
    return lambda marker: request(f"Content-Length: {value}", body=hidden(marker))


def _coding(*headers: str) -> Callable[[str], bytes]:
    """Hide the request behind an empty chunked body that a length covers."""
    return lambda marker: request(
        *headers, f"Content-Length: {5 + len(hidden(marker))}", body="0\r\n\r\n" + hidden(marker)
    )


def _chunks(body: Callable[[str], str]) -> Callable[[str], bytes]:
    """Hide the request in a chunked body that is written oddly."""
    return lambda marker: request("Transfer-Encoding: chunked", body=body(hidden(marker)))


def _headed(*headers: str, end: str = "\r\n") -> Callable[[str], bytes]:
    """Hide the request behind a head that is written oddly."""
    return lambda marker: request(*headers, body=hidden(marker), end=end)


def _lined(line: str) -> Callable[[str], bytes]:
    return lambda marker: request("Connection: close", line=line, body=hidden(marker))


CHUNKED = "Transfer-Encoding: chunked"
# Refused: 4xx or 501, or the connection is closed; never a second answer.
REFUSED: dict[str, Callable[[str], bytes]] = {
    "CL.TE": _coding(CHUNKED),
    "TE.CL": lambda m: request("Content-Length: 4", CHUNKED, body=chunked(hidden(m))),
    "TE.TE: twice": lambda m: request(CHUNKED, "Transfer-Encoding: identity", body="0\r\n\r\n" + hidden(m)),
    "TE.TE: unknown second": lambda m: request(CHUNKED, "Transfer-Encoding: x", body="0\r\n\r\n" + hidden(m)),
    "TE.TE: unknown first": lambda m: request("Transfer-Encoding: x", CHUNKED, body="0\r\n\r\n" + hidden(m)),
    "TE: xchunked": _coding("Transfer-Encoding: xchunked"),
    "TE: chunked, identity": _coding("Transfer-Encoding: chunked, identity"),
    "TE: identity": _coding("Transfer-Encoding: identity"),
    "TE: gzip, chunked": lambda m: request("Transfer-Encoding: gzip, chunked", body="0\r\n\r\n" + hidden(m)),
    "TE: tab before": _coding("Transfer-Encoding:\tchunked"),
    "TE: vertical tab before": _coding("Transfer-Encoding: \x0bchunked"),
    "TE: tab behind": _coding("Transfer-Encoding: chunked\t"),
    "TE: in quotes": _coding('Transfer-Encoding: "chunked"'),
    "TE: in capitals": _coding("Transfer-Encoding: CHUNKED"),
    "TE: with NUL": _coding("Transfer-Encoding: chunked\0"),
    "TE: with a letter beyond ASCII": _coding("Transfer-Encoding: chunked\xff"),
    "TE: blank before the colon": _coding("Transfer-Encoding : chunked"),
    "TE: blank in the name": _coding("Transfer Encoding: chunked"),
    "TE: folded": _coding("Transfer-Encoding:\r\n chunked"),
    "TE: folded behind another": _coding("X-Other: x\r\n Transfer-Encoding: chunked"),
    "TE: behind a bare LF": _coding("X-Other: x\nTransfer-Encoding: chunked"),
    "TE: behind a bare CR": _coding("X-Other: x\rTransfer-Encoding: chunked"),
    "TE: HTTP/1.0": lambda m: request(CHUNKED, line=f"POST {TARGET} HTTP/1.0", body="0\r\n\r\n" + hidden(m)),
    "CL: two that differ": _headed("Content-Length: 0", "Content-Length: 5"),
    "CL: the same twice": _headed("Content-Length: 0", "Content-Length: 0"),
    "CL: a list": _length("0, 0"),
    "CL: a list that differs": _length("0,5"),
    "CL: with plus": _length("+0"),
    "CL: with minus": _length("-1"),
    "CL: minus nothing": _length("-0"),
    "CL: blank inside": _length("1 0"),
    "CL: hexadecimal": _length("0x0"),
    "CL: fraction": _length("0.0"),
    "CL: exponent": _length("0e0"),
    "CL: underscore": _length("1_0"),
    "CL: empty": _length(""),
    "CL: no number": _length("five"),
    "CL: beyond 64 bits": _length("18446744073709551616"),
    "CL: beyond 63 bits": _length("9223372036854775808"),
    "CL: digits of another script": _length("\xb2"),
    "CL: with NUL": _length("0\0"),
    "CL: blank before the colon": _headed("Content-Length : 0"),
    "CL: folded": _headed("Content-Length:\r\n 0"),
    "chunk size negative": _chunks(lambda h: "-1\r\n" + h),
    "chunk size with plus": _chunks(lambda h: "+0\r\n\r\n" + h),
    "chunk size with 0x": _chunks(lambda h: "0x0\r\n\r\n" + h),
    "chunk size with underscore": _chunks(lambda h: f"{len(h) // 16:x}_{len(h) % 16:x}\r\n{h}\r\n0\r\n\r\n"),
    "chunk size empty": _chunks(lambda h: "\r\n" + h),
    "chunk size no number": _chunks(lambda h: "z\r\n" + h),
    "chunk size beyond 64 bits": _chunks(lambda h: "10000000000000000\r\n" + h),
    "chunk size wrapping to zero": _chunks(lambda h: "100000000000000000000000000000000\r\n\r\n" + h),
    "chunk size beyond 63 bits": _chunks(lambda h: "ffffffffffffffff\r\n" + h),
    "chunk without its end": _chunks(lambda h: f"1\r\nxx\r\n0\r\n\r\n{h}"),
    "chunk ended by blanks": _chunks(lambda h: f"1\r\nx  0\r\n\r\n{h}"),
    "blank before the colon": _headed("X-Other : x", "Content-Length: 0"),
    "blank before a name": _headed(" X-Other: x", "Content-Length: 0"),
    "no name": _headed(": x", "Content-Length: 0"),
    "folded header": _headed("X-Other: x\r\n y", "Content-Length: 0"),
    "NUL in a header": _headed("X-Other: x\0y", "Content-Length: 0"),
    "bare CR in a header": _headed("X-Other: x\ry", "Content-Length: 0"),
    "two hosts": _headed("Host: elsewhere", "Content-Length: 0"),
    "version 9.9": _lined(f"GET {TARGET} HTTP/9.9"),
    "version of nothing": _lined(f"GET {TARGET} HTTP/"),
    "version in small letters": _lined(f"GET {TARGET} http/1.1"),
    "blank in the path": _lined("GET /api/v1/ smuggled HTTP/1.1"),
    "tab for a blank": _lined(f"GET\t{TARGET}\tHTTP/1.1"),
    "method in small letters": _lined(f"get {TARGET} HTTP/1.1"),
    "method with a colon": _lined(f"GET: {TARGET} HTTP/1.1"),
    "asterisk for a path": _lined("GET * HTTP/1.1"),
    "preface of HTTP/2": lambda m: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS on a plain port": lambda m: b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(60),
}

# Odd, yet a request that all read alike: one answer, and what its body holds stays a body.
READ_ALIKE: dict[str, Callable[[str], bytes]] = {
    "extension of a chunk": _chunks(lambda h: f"{len(h):x};a=b\r\n{h}\r\n0\r\n\r\n"),
    "extension in quotes": _chunks(lambda h: f'{len(h):x};a="b;c"\r\n{h}\r\n0\r\n\r\n'),
    "chunk size with zeros before": _chunks(lambda h: f"0000{len(h):x}\r\n{h}\r\n0\r\n\r\n"),
    "chunk size in capitals": _chunks(lambda h: f"{len(h):X}\r\n{h}\r\n0\r\n\r\n"),
    "length with zeros before": lambda m: request(f"Content-Length: 000{len(hidden(m))}", body=hidden(m)),
    "length with a tab before": lambda m: request(f"Content-Length:\t{len(hidden(m))}", body=hidden(m)),
    "length in capitals": lambda m: request(f"CONTENT-LENGTH: {len(hidden(m))}", body=hidden(m)),
    "coding in capitals": lambda m: request("TRANSFER-ENCODING: CHUNKED", body=chunked(hidden(m))),
    "whole address of another host": lambda m: request(
        f"Content-Length: {len(hidden(m))}", line=f"POST http://elsewhere{TARGET} HTTP/1.1", body=hidden(m)
    ),
    "body of a GET": lambda m: request(
        f"Content-Length: {len(hidden(m))}", line="GET /api/v1/profile HTTP/1.1", body=hidden(m)
    ),
    "body of a DELETE in chunks": lambda m: request(
        CHUNKED, line="DELETE /api/v1/cart HTTP/1.1", body=chunked(hidden(m))
    ),
    "body where nothing is": lambda m: request(
        f"Content-Length: {len(hidden(m))}", line="POST /nothing HTTP/1.1", body=hidden(m)
    ),
    "expectation": lambda m: request(
        f"Content-Length: {len(hidden(m))}", "Expect: 100-continue", body=hidden(m)
    ),
    "upgrade to HTTP/2": lambda m: request(
        f"Content-Length: {len(hidden(m))}",
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        body=hidden(m),
    ),
    "length named as a hop's own": lambda m: request(
        f"Content-Length: {len(hidden(m))}", "Connection: keep-alive, Content-Length", body=hidden(m)
    ),
    "coding named as a hop's own": lambda m: request(
        CHUNKED, "Connection: keep-alive, Transfer-Encoding", body=chunked(hidden(m))
    ),
}
REFUSALS = {400, 501, 505}
# What a service says that never looks at the body, or refuses what it could read of it: and closes.
UNREAD = {404, 413, 422}


@pytest.fixture(scope="module")
def targets(running_suite: Suite) -> dict[str, str]:
    """Return every port that answers HTTP."""
    public = {"http": running_suite.url, "https": running_suite.https_url}
    return public | dict(running_suite.service_urls)


@pytest.fixture(scope="module")
def sent_markers(running_suite: Suite) -> Iterator[dict[str, str]]:
    """Collect the ids of hidden requests; at the end, no log knows any of them."""
    markers: dict[str, str] = {}
    yield markers
    lines = find_in_logs(running_suite.logs, "hidden-")
    arrived = {name: line for marker, name in markers.items() for line in lines if marker in line}
    assert arrived == {}


def send_everywhere(
    write: Callable[[str], bytes], name: str, targets: dict[str, str], markers: dict[str, str]
) -> dict[str, Heard]:
    """Send a request to every port, each with a hidden one of its own."""

    def send(where: str) -> Heard:
        marker = f"hidden-{token_hex(8)}"
        markers[marker] = f"{name} at {where}"
        return exchange(targets[where], write(marker))

    with ThreadPoolExecutor(len(targets)) as pool:
        return dict(zip(targets, pool.map(send, targets), strict=True))


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_be_cut_in_two_ways_is_refused(targets, sent_markers, report: Report, name: str) -> None:
    heard = send_everywhere(REFUSED[name], name, targets, sent_markers)
    for where, answer in heard.items():
        report.table("Smuggling × ports").add(name, where, answer.shown)
    for where, answer in heard.items():
        assert answer.closed, (where, answer)
        if where.startswith("http"):
            assert len(answer.statuses) == 1, (where, answer)
            assert set(answer.statuses) <= REFUSALS, (where, answer)
        else:
            assert len(answer.statuses) <= 1, (where, answer)
            assert set(answer.statuses) <= REFUSALS | UNREAD, (where, answer)


@pytest.mark.parametrize("name", READ_ALIKE)
def test_what_is_only_odd_is_one_request(targets, sent_markers, report: Report, name: str) -> None:
    heard = send_everywhere(READ_ALIKE[name], name, targets, sent_markers)
    for where, answer in heard.items():
        report.table("Smuggling × ports").add(name, where, answer.shown)
    for where, answer in heard.items():
        assert len([status for status in answer.statuses if status >= 200]) == 1, (where, answer)
        assert max(answer.statuses) < 500, (where, answer)


@pytest.mark.parametrize("lines", ["GET /api/v1/token/refresh\r\n", "GET /metrics\r\n"])
def test_http_of_the_first_days_gets_nothing(targets, lines: str) -> None:
    for where in ("http", "https"):
        assert b"http_requests_total" not in exchange(targets[where], lines.encode()).raw


def test_the_log_would_show_a_request_that_arrives(running_suite: Suite, targets) -> None:
    marker = f"seen-{token_hex(8)}"
    for where in targets:
        exchange(targets[where], hidden(marker).encode())
    services = eventually(
        lambda: found if len(found := find_in_logs(running_suite.logs, marker)) > len(SERVICES) else []
    )
    assert services
