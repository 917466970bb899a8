"""A rest for a channel whose other side keeps everyone waiting, so that the others go on meanwhile.

It refuses without a try, unlike `chassis.silence` (ADR 7), which lets everyone have a short one: a short try
of a mail may end after its final dot. Its outcome is unknown then, and another attempt perhaps a second copy;
a message that is refused untried loses nothing but seconds.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from notification_service.errors import Resting, TemporaryFailure

# Whoever failed after less than this has cost the other channels little.
SLOW_SECONDS = 5.0
REST_SECONDS = 10.0


class Breaker:
    """Refuses for a while after a slow failure; then one message at a time finds out, in this process."""

    def __init__(self, name: str, trial_seconds: float) -> None:
        self._name, self._trial_seconds = name, trial_seconds
        self._lock = threading.Lock()
        self._rests_until: float | None = None

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Let a message have its try, or raise `Resting`."""
        self._admit()
        started = time.monotonic()
        try:
            yield
        except TemporaryFailure:
            self._note(is_slow=time.monotonic() - started >= SLOW_SECONDS)
            raise
        except Exception:
            self._note(is_slow=False)
            raise
        self._note(is_slow=False)

    def _admit(self) -> None:
        with self._lock:
            now = time.monotonic()
            if self._rests_until is None:
                return
            if now < self._rests_until:
                raise Resting(f"{self._name} kept others waiting a moment ago")
            # This one finds out, and the others wait for what it finds.
            self._rests_until = now + self._trial_seconds

    def _note(self, *, is_slow: bool) -> None:
        with self._lock:
            self._rests_until = time.monotonic() + REST_SECONDS if is_slow else None
