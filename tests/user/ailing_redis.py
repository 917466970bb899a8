"""A Redis that is there and fails all the same: it refuses what it is asked, or answers late."""

import select
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import redis

from tests.servers import PASSWORD, RedisServer, run_redis

OPERATOR = f"user operator on ~* &* +@all >{PASSWORD}\n"
LATE_SECONDS = 0.5


@dataclass(frozen=True)
class WilfulRedis(RedisServer):
    """A Redis of one test that refuses to write when it is told to."""

    def refuse_writes(self, refuse: bool = True) -> None:
        """Let it ask for a replica that it has not, as one whose disk is full asks for room."""
        with redis.Redis(self.host, self.port, username="operator", password=self.password) as operator:
            operator.config_set("min-replicas-to-write", int(refuse))


@contextmanager
def run_wilful_redis() -> Iterator[WilfulRedis]:
    """Run a Redis that an operator may reconfigure, and that forgets everything at its end."""
    with run_redis(OPERATOR) as server:
        yield WilfulRedis(server.host, server.port, server.password, server.child)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = block_on_close = True


class LateRedis:
    """Leads to a Redis that does what it is asked, and answers some commands later than anybody waits."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._late: tuple[bytes, ...] = ()
        line = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):
                    line._carry(self.request)

        self._listener = _Server(("127.0.0.1", 0), Handler)
        self.port = self._listener.server_address[1]

    @contextmanager
    def run(self) -> Iterator["LateRedis"]:
        """Listen until the block ends."""
        threading.Thread(target=self._listener.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield self
        finally:
            self._listener.shutdown()
            self._listener.server_close()

    @contextmanager
    def answers_late(self, *commands: bytes) -> Iterator[None]:
        """Answer what has one of these words in it half a second late, as long as the block runs."""
        self._late = commands
        try:
            yield
        finally:
            self._late = ()
            # What was asked meanwhile is done by then.
            time.sleep(LATE_SECONDS)

    def _carry(self, client: socket.socket) -> None:
        with socket.create_connection((self._server.host, self._server.port)) as onward:
            late = False
            while True:
                for source in select.select([client, onward], [], [])[0]:
                    if not (said := source.recv(64 * 1024)):
                        return
                    if source is client:
                        late = any(word in said for word in self._late)
                        onward.sendall(said)
                    else:
                        time.sleep(LATE_SECONDS if late else 0)
                        client.sendall(said)


@contextmanager
def run_late_redis(server: RedisServer) -> Iterator[LateRedis]:
    """Lead to that Redis over a line of one's own."""
    with LateRedis(server).run() as line:
        yield line
