"""Kept connections on which the head of an answer comes in time, or not at all.

The read limit of a socket is for each piece that it receives: a server that sends a byte now and then would
be waited for without end.
"""

import socket
import threading
from contextlib import suppress
from typing import ClassVar

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection


class _Bounded(HTTPConnection):
    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]
        """Wait for the head of the answer; all of the wait together is as long as the read limit."""
        if self.sock is None or not isinstance(self.timeout, int | float):
            return super().getresponse()
        guard = threading.Timer(self.timeout, _hang_up, [self.sock])
        guard.start()
        try:
            return super().getresponse()
        finally:
            guard.cancel()


class _BoundedTls(_Bounded, HTTPSConnection):
    pass


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Bounded


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _BoundedTls


class BoundedPoolManager(urllib3.PoolManager):
    """A `PoolManager` with such connections."""

    by_scheme: ClassVar = {"http": _Pool, "https": _TlsPool}

    def __init__(self, *, maxsize: int) -> None:
        super().__init__(maxsize=maxsize)
        self.pool_classes_by_scheme = self.by_scheme


def _hang_up(connection: socket.socket) -> None:
    """End a connection under whoever reads from it, whether TLS speaks on it or not."""
    with suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
