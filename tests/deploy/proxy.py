"""A real Nginx with the suite's configuration, in front of services that tell what they got."""

import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deploy.local.ports import free_ports
from deploy.setup.certificate import make_certificate
from tests.servers import REPOSITORY, scratch_folder

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
SETTINGS_SCRIPT = REPOSITORY / "nginx/settings.sh"
SERVICES = ("user", "product", "order", "notification")
# A page's own policy wins over Nginx's.
OWN_POLICY = "default-src 'self'; frame-ancestors 'none'"
Answer = tuple[int, http.client.HTTPMessage, bytes]


class Echo(BaseHTTPRequestHandler):
    """Answer with what arrived; `/api/v1/products/refused` with a problem, `/broken` breaks off."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.server.seen.append(self.path)  # type: ignore[attr-defined]
        if self.path.endswith("/broken"):
            self.close_connection = True
            return
        got = {
            "service": self.server.name,  # type: ignore[attr-defined]
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "received": len(body),
            "filling": "x" * 2000,
        }
        text = json.dumps(got).encode()
        self.send_response(409 if self.path.endswith("/refused") else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.send_header("X-Request-ID", self.headers["X-Request-ID"])
        self.send_header("X-Content-Type-Options", "nosniff")
        if self.path == "/docs":
            self.send_header("Content-Security-Policy", OWN_POLICY)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_GET = do_HEAD = do_OPTIONS = do_POST = do_PUT = do_DELETE = do_PATCH = answer

    def log_message(self, *arguments: Any) -> None:
        """Stay silent."""


@dataclass
class Proxy:
    """A running Nginx: its ports and its folder."""

    port: int
    tls_port: int
    service_ports: dict[str, int]
    folder: Path
    echoes: dict[str, ThreadingHTTPServer] = field(default_factory=dict)

    def request(
        self, path: str, method: str = "GET", *, port: int | None = None, body: Any = None, **headers: str
    ) -> Answer:
        connection = self.connect(port or self.port)
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def connect(self, port: int) -> http.client.HTTPConnection:
        """Open a connection, by TLS where the port speaks it; only our own certificate will do."""
        if port != self.tls_port:
            return http.client.HTTPConnection("127.0.0.1", port, timeout=15)
        context = ssl.create_default_context(cafile=str(self.folder / "tls/cert.pem"))
        return http.client.HTTPSConnection("127.0.0.1", port, timeout=15, context=context)

    @property
    def ports(self) -> tuple[int, ...]:
        """List every port that clients may come by."""
        return (self.port, self.tls_port, *self.service_ports.values())

    def raw(self, request: bytes, port: int | None = None) -> Answer:
        """Send bytes as they are, without TLS."""
        with socket.create_connection(("127.0.0.1", port or self.port), timeout=15) as connection:
            connection.sendall(request)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            return answer.status, answer.headers, answer.read()

    def log_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "logs/access.log").read_text().splitlines()]


# Services with a second replica: the same one at another address, or an address where nobody listens.
TWO_REPLICAS = ("product",)
ONE_OF_TWO_AWAY = ("order",)


@contextmanager
def run_proxy(**settings: str) -> Iterator[Proxy]:
    """Run an Nginx with these settings."""
    if NGINX is None:
        pytest.fail("Nginx is not installed")
    with scratch_folder("nginx") as folder:
        public, tls, *ports = free_ports(2 + len(SERVICES))
        proxy = Proxy(public, tls, dict(zip(SERVICES, ports, strict=True)), folder)
        for name in SERVICES:
            echo = ThreadingHTTPServer(("" if name in TWO_REPLICAS else "127.0.0.1", 0), Echo)
            echo.name, echo.seen = f"{name}-service", []  # type: ignore[attr-defined]
            threading.Thread(target=echo.serve_forever, daemon=True).start()
            proxy.echoes[name] = echo
        lay_out(proxy, settings)
        command = [NGINX, "-e", str(folder / "logs/error.log"), "-c", str(folder / "nginx.conf")]
        with subprocess.Popen([*command, "-g", "daemon off;"]) as process:
            try:
                wait_for(public)
                yield proxy
            finally:
                process.terminate()
                process.wait(10)
                for echo in proxy.echoes.values():
                    echo.shutdown()
                    echo.server_close()


def print_settings(**settings: str) -> "subprocess.CompletedProcess[str]":
    """Run the script that turns settings into configuration."""
    environment = {"PATH": f"{os.environ['PATH']}:/usr/sbin"} | settings
    return subprocess.run([SETTINGS_SCRIPT], env=environment, capture_output=True, text=True, check=False)


def lay_out(proxy: Proxy, settings: Mapping[str, str]) -> None:
    """Write the folder mode/ as nginx.conf asks for it."""
    folder = proxy.folder
    for name in ("mode", "logs", "temp"):
        (folder / name).mkdir()
    for name in ("nginx.conf", "conf.d", "snippets"):
        (folder / name).symlink_to(REPOSITORY / "nginx" / name)
    make_certificate(folder / "tls")
    (folder / "mode/main.conf").write_text(
        f"user root;\npid {folder}/nginx.pid;\nerror_log {folder}/logs/error.log warn;\n"
    )
    lines = [f'map "" ${name}_service {{ default {name}; }}' for name in proxy.echoes]
    lines += [upstream(name, echo.server_port) for name, echo in proxy.echoes.items()]
    lines += [f"{kind}_temp_path {folder}/temp/{kind};" for kind in ("proxy", "fastcgi", "uwsgi", "scgi")]
    lines += [f"client_body_temp_path {folder}/temp/body;", f"access_log {folder}/logs/access.log json;"]
    (folder / "mode/http.conf").write_text("\n".join(lines) + "\n")
    (folder / "mode/public.conf").write_text(
        f"listen 127.0.0.1:{proxy.port};\nlisten 127.0.0.1:{proxy.tls_port} ssl;\n"
        f"ssl_certificate {folder}/tls/cert.pem;\nssl_certificate_key {folder}/tls/key.pem;\n"
    )
    # Docker's own servers on the services' ports, moved to free ones.
    ports = (REPOSITORY / "nginx/docker/ports.conf").read_text()
    for number, name in enumerate(SERVICES, 5001):
        ports = ports.replace(f"listen {number};", f"listen 127.0.0.1:{proxy.service_ports[name]};")
    (folder / "mode/ports.conf").write_text(ports)
    printed = print_settings(**settings)
    assert printed.returncode == 0, printed.stderr
    (folder / "mode/settings.conf").write_text(printed.stdout)


def upstream(name: str, port: int) -> str:
    """List a service's replicas, as a name server would."""
    hosts = ("127.0.0.1", "127.0.0.2") if name in (*TWO_REPLICAS, *ONE_OF_TWO_AWAY) else ("127.0.0.1",)
    servers = "".join(f"server {host}:{port} max_fails=0; " for host in hosts)
    return f"upstream {name} {{ {servers}}}"


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert time.monotonic() < deadline, "Nginx did not start"
        time.sleep(0.05)


def assert_problem(answer: Answer, status: int, code: str) -> None:
    got, headers, body = answer
    assert (got, headers["Content-Type"]) == (status, "application/problem+json")
    problem = json.loads(body)
    assert set(problem) == {"type", "title", "status", "detail", "code", "request_id"}
    assert (problem["status"], problem["code"]) == (status, code)
    assert headers.get_all("X-Request-ID") == [problem["request_id"]]
    assert headers.get_all("Cache-Control") == ["no-store"]
    assert_common_headers(headers)


def assert_common_headers(headers: http.client.HTTPMessage) -> None:
    assert headers.get_all("X-Content-Type-Options") == ["nosniff"]
    assert headers.get_all("Referrer-Policy") == ["strict-origin-when-cross-origin"]
    assert headers.get_all("Permissions-Policy") == ["camera=(), geolocation=(), microphone=(), usb=()"]
    assert headers.get_all("Cross-Origin-Opener-Policy") == ["same-origin-allow-popups"]
    [policy] = headers.get_all("Content-Security-Policy", [])
    assert "frame-ancestors 'none'" in policy
    assert len(headers.get_all("X-Request-ID", [])) == 1
    assert re.fullmatch("nginx", headers["Server"])
