"""The moment by which a message is out: a time-out of a socket's own begins anew with every byte."""

import contextlib
import socket
import threading
import time
from collections.abc import Sequence
from typing import Self

Address = tuple[str, int]

# A stranger's name may have any number of addresses that answer nothing.
MOST_ADDRESSES = 3


class Deadline:
    """Connects for one message, and cuts its connections off when the time is over.

    What waits for such a connection then reads its end, whatever wrapped it in TLS or HTTP meanwhile.
    """

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds
        # A duplicate stays with the connection when a wrapper has taken the first descriptor away.
        self._twins: list[socket.socket] = []
        self._timers: list[threading.Timer] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for timer in self._timers:
            timer.cancel()
            # A descriptor must not be closed, and perhaps be another's, while the timer uses it.
            timer.join()
        for twin in self._twins:
            twin.close()

    def left(self) -> float:
        """Return how many seconds are left, 0 when none are."""
        return max(0.0, self._ends - time.monotonic())

    @property
    def is_over(self) -> bool:
        """Tell whether the time is over."""
        return self.left() == 0.0

    def connect(self, addresses: Sequence[Address], *, at_most: float) -> socket.socket:
        """Connect to the first of a few addresses that answers.

        Each has its share of the time left, and at most so many seconds.
        """
        error: OSError = TimeoutError("no address to connect to")
        tried = addresses[:MOST_ADDRESSES]
        for place, address in enumerate(tried):
            share = min(at_most, self.left() / (len(tried) - place))
            if not share:
                raise TimeoutError("no time left to connect") from error
            try:
                return self._watched(socket.create_connection(address, share))
            except OSError as failed:
                error = failed
        raise error

    def _watched(self, connection: socket.socket) -> socket.socket:
        twin = connection.dup()
        timer = threading.Timer(self.left(), _cut_off, [twin])
        timer.daemon = True
        self._twins.append(twin)
        self._timers.append(timer)
        timer.start()
        # For each single wait; what follows may shorten it.
        connection.settimeout(max(self.left(), 0.001))
        return connection


def _cut_off(connection: socket.socket) -> None:
    # It may have ended by itself.
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def find_addresses(host: str, port: int) -> list[Address]:
    """Resolve a name, each address once."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((str(entry[4][0]), int(entry[4][1])) for entry in found))
