"""Waiting longer after every failure in a row."""

import random
import threading
from collections.abc import Callable
from time import monotonic

SLICE = 5.0  # seconds between two signs of life while waiting


class Backoff:
    """Doubling waits from 0.1 s up to a cap, with jitter so that many who failed together part."""

    def __init__(self, cap: float) -> None:
        self.cap = cap
        self.failures = 0

    def failed(self) -> float:
        """Count one more failure and return the seconds to wait."""
        self.failures += 1
        return min(self.cap, 0.1 * 2 ** min(self.failures, 16)) * random.uniform(0.5, 1.0)

    def worked(self) -> None:
        """Start anew from the shortest wait."""
        self.failures = 0


def pause(stop: threading.Event, seconds: float, beat: Callable[[], None]) -> None:
    """Wait until `stop` or for so many seconds, giving signs of life meanwhile."""
    ends = monotonic() + seconds
    beat()
    while (left := ends - monotonic()) > 0 and not stop.wait(min(left, SLICE)):
        beat()
