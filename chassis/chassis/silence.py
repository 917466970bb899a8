"""How long to wait for a dependency that may be silent, so that nobody waits for it in turns (ADR 7).

A circuit breaker that never refuses without trying. Once a wait has ended without an answer, and nobody else
got one meanwhile, few wait in full any more, and of what they have queued for a thread that much less; the
others wait shortly: all threads would be taken, and those at the end of the queue would wait for as many
silences as there are turns before them. The next answer, to whomever, ends the silence.
"""

import time

from chassis import context

# Long enough for a dependency in the same network that speaks again.
SHORT_SECONDS = 0.1
# So many waits in full may begin within one.
PROBES = 4


class Silence:
    """What this process knows of one dependency's silence; its threads share it."""

    def __init__(self, at_most: float, *, short: float = SHORT_SECONDS) -> None:
        """Let one wait last so many seconds at most, and a short one that many."""
        self._at_most, self._short = at_most, short
        self._silent = False
        self._next_probe = self._answered_at = float("-inf")

    def seconds(self) -> float:
        """Return how long one wait may last now."""
        return context.seconds_left(self._while_silent() if self._silent else self._at_most)

    def _while_silent(self) -> float:
        full = self._at_most - context.seconds_since_arrival()
        # Two threads that come at once may both probe; one more does no harm.
        if full <= self._short or time.monotonic() < self._next_probe:
            return self._short
        self._next_probe = time.monotonic() + self._at_most / PROBES
        return full

    def begins(self, after: float) -> None:
        """Note that nothing came within these seconds; a wait cut to less than half tells nothing."""
        if after >= self._at_most / 2 and self._answered_at < time.monotonic() - after:
            self._silent = True

    def ends(self) -> None:
        """Note an answer."""
        self._answered_at = time.monotonic()
        self._silent = False
