"""The lab's proxy: everything arrives, in order, and later where a component is slow."""

import json
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.ports import free_ports
from tests.faults.calls import wait_until
from tests.faults.proxy import Wire, write_wires
from tests.faults.stage import REPOSITORY

HOST = "127.0.0.1"
SLOW = 0.3


class Echo(socketserver.BaseRequestHandler):
    """Says what it hears."""

    def handle(self) -> None:
        while data := self.request.recv(1000):
            self.request.sendall(data)


@pytest.fixture
def store() -> Iterator[int]:
    """Yield the port of a server that says what it hears."""
    with socketserver.ThreadingTCPServer((HOST, 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture
def ports(store: int, tmp_path: Path) -> Iterator[dict[str, int]]:
    """Yield the proxy's ports: its control, the wire from shop to store, and one that leads nowhere."""
    control, port, dead, nobody = free_ports(4)
    wires = [Wire("shop", "store", HOST, store, port), Wire("shop", "nobody", HOST, nobody, dead)]
    write_wires(tmp_path / "wires.json", wires)
    options = ["--wires", str(tmp_path / "wires.json"), "--control", str(control)]
    with subprocess.Popen([sys.executable, "-m", "tests.faults.proxy", *options], cwd=REPOSITORY) as process:
        assert wait_until(lambda: is_open(control), 20)
        yield {"control": control, "wire": port, "dead": dead}
        process.terminate()
        assert process.wait(10) == 0


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def tell(control: int, component: str, seconds: float) -> dict[str, int]:
    with socket.create_connection((HOST, control), 5) as line, line.makefile() as answers:
        line.sendall(json.dumps({"component": component, "seconds": seconds}).encode() + b"\n")
        answer: dict[str, int] = json.loads(answers.readline())
        return answer


def order(control: int, component: str, seconds: float) -> int:
    return tell(control, component, seconds)["wires"]


def round_trip(line: socket.socket) -> float:
    started = time.monotonic()
    line.sendall(b"p")
    assert line.recv(10) == b"p"
    return time.monotonic() - started


def test_whatever_is_sent_arrives_whole_and_in_order(ports: dict[str, int]) -> None:
    sent = bytes(range(256)) * 8000
    with socket.create_connection((HOST, ports["wire"]), 10) as line:

        def send() -> None:
            line.sendall(sent)
            line.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        received = b"".join(iter(lambda: line.recv(65536), b""))
        sender.join()
    assert received == sent


def test_a_connection_that_is_open_becomes_slow_and_quick_again(ports: dict[str, int]) -> None:
    with socket.create_connection((HOST, ports["wire"]), 10) as line:
        round_trip(line)
        for component, wires in (("store", 1), ("shop", 2)):
            assert order(ports["control"], component, SLOW) == wires
            assert round_trip(line) >= SLOW
            order(ports["control"], component, 0)
        assert order(ports["control"], "somebody else", SLOW) == 0
        assert min(round_trip(line) for _ in range(5)) < SLOW


def test_the_bytes_that_a_component_sent_while_it_was_slow_are_counted(ports: dict[str, int]) -> None:
    with socket.create_connection((HOST, ports["wire"]), 10) as line:
        round_trip(line)
        assert tell(ports["control"], "store", SLOW)["delayed"] == 0
        round_trip(line)
        round_trip(line)
        assert tell(ports["control"], "store", 0)["delayed"] == 2
        round_trip(line)
        assert tell(ports["control"], "store", 0)["delayed"] == 2
        assert tell(ports["control"], "shop", 0)["delayed"] == 0


def test_a_server_that_is_away_ends_the_connection(ports: dict[str, int]) -> None:
    with socket.create_connection((HOST, ports["dead"]), 10) as line, pytest.raises(ConnectionError):
        line.recv(1)
