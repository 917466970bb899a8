"""What was done in Redis and may not have been heard of, so that doing it again is the same act."""

import threading
import time
from itertools import islice
from typing import Generic, TypeVar

MOST = 10_000

T = TypeVar("T")


class Unanswered(Generic[T]):
    """Kept in this process for some seconds, and given out once; the oldest makes room."""

    def __init__(self, seconds: float, most: int = MOST) -> None:
        self._seconds, self._most = seconds, most
        self._kept: dict[str, tuple[T, float]] = {}
        self._lock = threading.Lock()

    def keep(self, name: str, value: T) -> None:
        """Keep what the next try by this name is to use again."""
        now = time.monotonic()
        with self._lock:
            self._kept.pop(name, None)
            self._kept[name] = (value, now + self._seconds)
            # The oldest come first; two may go for one that comes, so that nothing old piles up.
            for oldest in list(islice(self._kept, 2)):
                if len(self._kept) > self._most or self._kept[oldest][1] <= now:
                    del self._kept[oldest]

    def take(self, name: str) -> T | None:
        """Give out what was kept by this name, once."""
        with self._lock:
            value, ends = self._kept.pop(name, (None, 0.0))
        return value if time.monotonic() < ends else None
