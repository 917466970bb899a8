"""What Gunicorn refuses by itself, before the app is asked, is a problem document like every refusal."""

import http.client
import json
import os
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
APP = """
from flask import Flask

from chassis.reading import read_raw

app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = 1024 * 1024


@app.get("/<path:path>")
@app.get("/", defaults={"path": ""})
def look(path):
    return path[:5]


@app.post("/")
def take():
    return str(len(read_raw()))
"""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Serve a tiny app as the services are served."""
    folder = tmp_path_factory.mktemp("gunicorn")
    (folder / "tiny.py").write_text(APP)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "-c", "python:chassis.gunicorn_conf", "tiny:app"]
    env = os.environ | {"PORT": str(number), "PYTHONPATH": str(ROOT / "chassis")}
    with subprocess.Popen(command, cwd=folder, env=env) as process:
        try:
            wait_for(number)
            yield number
        finally:
            process.terminate()


def wait_for(port: int) -> None:
    ends = time.monotonic() + 20
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert time.monotonic() < ends, "Gunicorn did not start"
        time.sleep(0.05)


def ask(port: int, sent: bytes) -> tuple[int, http.client.HTTPMessage, bytes]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(sent)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, answer.headers, answer.read()


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "uri_too_long"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 17000 + b"\r\n\r\n", 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: x\r\n" * 1001 + b"\r\n", 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nno header\r\n\r\n", 400, "bad_request"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: odd\r\n\r\n", 501, "not_implemented"),
    ],
)
def test_what_is_no_proper_request_gets_a_problem(port: int, sent: bytes, status: int, code: str) -> None:
    got, headers, body = ask(port, sent)
    document = json.loads(body)
    assert (got, headers["Content-Type"]) == (status, "application/problem+json")
    assert (document["status"], document["code"]) == (status, code)
    assert headers["X-Request-ID"] == document["request_id"] != ""


CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"2\r\n{}\r\n0\r\n\r\n", 200),
        (b"zz\r\n{}\r\n0\r\n\r\n", 400),
        (b"10000\r\n" + b"x" * 65536 + b"\r\n" + b"0\r\n\r\n", 200),
        ((b"10000\r\n" + b"x" * 65536 + b"\r\n") * 17 + b"0\r\n\r\n", 413),
    ],
)
def test_a_body_in_chunks_is_read_to_its_end_or_refused(port: int, body: bytes, status: int) -> None:
    assert ask(port, CHUNKED + body)[0] == status


@pytest.mark.parametrize("connection", [b"close", b"keep-alive"])
def test_who_sends_too_much_is_heard_out_and_hears_the_refusal(port: int, connection: bytes) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: %s\r\nContent-Length: 6000000\r\n\r\n" % connection
    for _ in range(5):
        assert ask(port, head + b"x" * 6000000)[0] == 413


@pytest.mark.parametrize("sent", ["announced", "x-1_Y"])
def test_what_cannot_be_read_is_refused_under_its_own_id(port: int, sent: str) -> None:
    head = b"GET / HTTP/1.1\r\nHost: x\r\nX-Odd: a\x7fb\r\nx-request-id:  %s \r\n\r\n" % sent.encode()
    status, headers, body = ask(port, head)
    assert (status, headers["X-Request-ID"], json.loads(body)["request_id"]) == (400, sent, sent)


def test_a_harmful_id_of_what_cannot_be_read_is_replaced(port: int) -> None:
    _, headers, _ = ask(port, b"GET / HTTP/1.1\r\nHost: x\r\nX-Odd: \x7f\r\nX-Request-ID: a b\r\n\r\n")
    assert re.fullmatch("[0-9a-f]{32}", headers["X-Request-ID"])


ANNOUNCED = b"%s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{"


@pytest.mark.parametrize(("route", "status"), [(b"POST /nowhere", 405), (b"POST /", 400)])
def test_a_body_that_never_comes_holds_nobody_up_for_long(port: int, route: bytes, status: int) -> None:
    with ExitStack() as stack:
        address = ("127.0.0.1", port)
        connections = [stack.enter_context(socket.create_connection(address, timeout=60)) for _ in range(16)]
        for connection in connections:
            connection.sendall(ANNOUNCED % route)
        # Every thread waits for one of them.
        with socket.create_connection(address, timeout=60) as patient:
            patient.sendall(b"GET /heard HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert patient.recv(12) == b"HTTP/1.1 200"
        for connection in connections:
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            assert (answer.status, answer.headers["Connection"]) == (status, "close")


def test_a_body_in_drops_holds_nobody_up_for_long(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(ANNOUNCED % b"POST /nowhere")
        while not select.select([connection], [], [], 0.2)[0]:
            connection.sendall(b"x")
        assert connection.recv(12) == b"HTTP/1.1 405"


def test_a_service_takes_whatever_nginx_lets_through(port: int) -> None:
    [size] = re.findall(r"large_client_header_buffers 4 (\d+)k;", (ROOT / "nginx/nginx.conf").read_text())
    most = int(size) * 1024
    line = b"GET /" + b"x" * (most - len(b"GET / HTTP/1.1\r\n")) + b" HTTP/1.1\r\nHost: x\r\n"
    header = b"X: " + b"x" * (most - len(b"X: \r\n")) + b"\r\n"
    assert ask(port, line + header + b"Connection: close\r\n\r\n")[0] == 200
