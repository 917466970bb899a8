"""Passwords: bcrypt over base64(SHA-256), only a few at a time."""

import base64
import hashlib
import threading
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

import bcrypt

from chassis.context import seconds_left
from chassis.errors import Refusal

COST = 12
# What an unknown name's password is compared with, so that it takes as long as a known one's.
NOBODYS_HASH = "$2b$12$BiXUG/tOuoytlc2etCY7ReXr0W0GdxiHLaLiBXI5syBFl.Te.FWIG"

AT_ONCE = 2
WAIT_SECONDS = 4.0
# A burst may fill every thread for a moment; a storm leaves these free for other requests.
CROWD, FEW, BURST_SECONDS = 12, 4, 3.0


class Turnstile:
    """Lets two in at once, lets a burst queue, and turns a lasting storm away."""

    def __init__(self) -> None:
        self._slots = threading.BoundedSemaphore(AT_ONCE)
        self._lock = threading.Lock()
        self._inside = 0
        self._crowded_since: float | None = None

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn; 503 when that takes too long or a storm is on."""
        self._arrive()
        try:
            if not self._slots.acquire(timeout=seconds_left(WAIT_SECONDS)):
                raise crowded()
            try:
                yield
            finally:
                self._slots.release()
        finally:
            self._leave()

    def _arrive(self) -> None:
        with self._lock:
            if self._inside >= CROWD:
                self._crowded_since = self._crowded_since or time.monotonic()
                if time.monotonic() - self._crowded_since > BURST_SECONDS:
                    raise crowded()
            self._inside += 1

    def _leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside < FEW:
                self._crowded_since = None


def crowded() -> Refusal:
    """Make the 503 of a moment at which too many passwords are being checked."""
    return Refusal(
        503,
        "service_unavailable",
        "Too many people sign in at this moment; try again soon.",
        headers={"Retry-After": "1"},
    )


class Hasher:
    """Hashes and checks passwords, in turns: bcrypt takes a whole core for a quarter of a second."""

    def __init__(self, cost: int = COST) -> None:
        self._cost = cost
        self._turnstile = Turnstile()

    def hash(self, password: str) -> str:
        """Return the salted hash to store."""
        with self._turnstile.turn():
            return bcrypt.hashpw(_digest(password), bcrypt.gensalt(self._cost)).decode()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn at `matches`."""
        with self._turnstile.turn():
            yield

    def matches(self, password: str, password_hash: str | None) -> bool:
        """Tell whether the password is the one of the hash; without a hash False, after the same work."""
        same = bcrypt.checkpw(_digest(password), (password_hash or NOBODYS_HASH).encode())
        return same and password_hash is not None


def _digest(password: str) -> bytes:
    """Return 44 bytes for any length: bcrypt reads only 72."""
    composed = unicodedata.normalize("NFC", password).encode()
    return base64.b64encode(hashlib.sha256(composed).digest())
