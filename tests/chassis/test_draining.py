"""A service that is told to end: what it has begun is answered, and nobody is left standing at its door."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from chassis.gunicorn_worker import drop_handshakes
from tests.chassis.test_gunicorn import ROOT, wait_for

# As Compose and the plain launcher allow it.
STOP_GRACE_SECONDS = 30
APP = """
import os
import time
from pathlib import Path

from flask import Flask

time.sleep(0.5)
Path("loaded").touch()
app = Flask(__name__)


@app.get("/<float:seconds>")
def think(seconds):
    Path("begun").touch()
    time.sleep(seconds)
    return "thought"

"""


class Service:
    """A tiny app, served as the services are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        (folder / "tiny.py").write_text(APP)
        command = [sys.executable, "-m", "gunicorn", "-c", "python:chassis.gunicorn_conf", "tiny:app"]
        env = os.environ | {"PORT": str(self.port), "PYTHONPATH": str(ROOT / "chassis")}
        self.process = subprocess.Popen(command, cwd=folder, env=env)

    def ask(self, path: str) -> int:
        with closing(self.connect()) as connection:
            connection.request("GET", path)
            return connection.getresponse().status

    def connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.connect()
        return connection

    def begun(self) -> bool:
        return (self.folder / "begun").exists()

    def end(self) -> tuple[int, float]:
        """Send SIGTERM; return the exit status and the seconds until then."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_GRACE_SECONDS), time.monotonic() - started


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path)
    try:
        wait_for(service.port)
        # Only then the signals' handlers are sure to be there.
        service.ask("/0.0")
        yield service
    finally:
        service.process.kill()
        service.process.wait()


def eventually(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.01)


def refused(service: Service) -> bool:
    try:
        service.connect().close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_request_under_way_is_answered_and_the_port_is_closed_meanwhile(service: Service) -> None:
    with closing(service.connect()) as slow, closing(service.connect()) as kept:
        kept.request("GET", "/0.0")
        assert kept.getresponse().read() == b"thought"
        (service.folder / "begun").unlink()
        slow.request("GET", "/3.0")
        eventually(service.begun)
        service.process.send_signal(signal.SIGTERM)
        eventually(lambda: refused(service))
        # What was connected before is served once more, and told to go.
        for connection in (kept, slow):
            if connection is kept:
                kept.request("GET", "/0.0")
            answer = connection.getresponse()
            assert (answer.status, answer.read(), answer.headers["Connection"]) == (200, b"thought", "close")
    status, _ = service.end()
    assert status == 0


def test_an_idle_service_ends_at_once(service: Service) -> None:
    status, seconds = service.end()
    assert status == 0
    assert seconds < STOP_GRACE_SECONDS / 2


def test_whoever_gets_through_is_answered(service: Service) -> None:
    answered, lost, turned_away = [], [], threading.Event()

    def knock() -> None:
        while not turned_away.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=0.5)
            try:
                connection.connect()
            except OSError:
                turned_away.set()
                return
            connection.timeout = 20
            connection.sock.settimeout(20)
            try:
                connection.request("GET", "/0.0")
                answered.append(connection.getresponse().status)
            except OSError as error:
                lost.append(error)
            finally:
                connection.close()

    threads = [threading.Thread(target=knock) for _ in range(8)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(answered) > 50)
    assert service.end()[0] == 0
    for thread in threads:
        thread.join(30)
    assert lost == []
    assert set(answered) == {200}


def test_before_a_port_is_closed_no_connection_is_made_and_none_is_lost() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        with socket.create_connection(address) as early:
            drop_handshakes(listener)
            with pytest.raises(TimeoutError):
                socket.create_connection(address, timeout=0.3)
            accepted, _ = listener.accept()
            early.sendall(b"heard")
            assert accepted.recv(5) == b"heard"
            accepted.close()


def test_the_port_opens_once_the_app_is_loaded(tmp_path: Path) -> None:
    service = Service(tmp_path)
    try:
        wait_for(service.port)
        assert (tmp_path / "loaded").exists()
    finally:
        service.process.kill()
        service.process.wait()


def test_a_worker_that_was_ended_by_itself_leaves_an_open_port(service: Service) -> None:
    [worker] = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text().split()
    os.kill(int(worker), signal.SIGTERM)
    eventually(lambda: not Path(f"/proc/{worker}").exists())
    service.process.send_signal(signal.SIGHUP)
    assert service.ask("/0.0") == 200
