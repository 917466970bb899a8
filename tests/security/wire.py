"""Bytes on a raw connection: what no HTTP client would send, and all that comes back."""

import contextlib
import re
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

FIRST_SECONDS, MORE_SECONDS = 2.0, 0.2
# An answer to HTTP/0.9 has no head; it is told by what it holds.
HEAD = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


@dataclass(frozen=True)
class Heard:
    """All that came back on one connection."""

    raw: bytes
    closed: bool

    @property
    def statuses(self) -> list[int]:
        """The status of each answer."""
        return [int(status) for status in HEAD.findall(self.raw)]

    @property
    def shown(self) -> str:
        """Say in a word or two what came back."""
        if not self.raw:
            return "closed" if self.closed else "silence"
        return " ".join(map(str, self.statuses)) or "no head"


def connect(url: str) -> socket.socket:
    """Open a connection, with TLS for https."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    plain = socket.create_connection((parts.hostname, port), timeout=FIRST_SECONDS)
    if parts.scheme != "https":
        return plain
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(plain, server_hostname=parts.hostname)


def exchange(url: str, sent: bytes) -> Heard:
    """Send bytes and hear all that comes back, until the end or a silence.

    Who waits for more is told, after a silence, that no more will come.
    """
    with contextlib.closing(connect(url)) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(sent)
        heard = hear(connection)
        if heard.raw or heard.closed:
            return heard
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        return hear(connection)


def hear(connection: socket.socket) -> Heard:
    """Read until the end or a silence."""
    heard = b""
    connection.settimeout(FIRST_SECONDS)
    try:
        while piece := connection.recv(65536):
            heard += piece
            connection.settimeout(MORE_SECONDS)
    except TimeoutError:
        return Heard(heard, closed=False)
    except OSError:
        # Reset: what was sent was not all read.
        return Heard(heard, closed=True)
    return Heard(heard, closed=True)


def find_in_logs(folder: Path, text: str) -> list[str]:
    """Return every line of every log that holds the text, with its file."""
    return [
        f"{path.relative_to(folder)}: {line[:500]}"
        for path in sorted(folder.rglob("*.log*"))
        for line in path.read_text(errors="replace").splitlines()
        if text in line
    ]
