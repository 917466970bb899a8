"""How long to wait for a dependency that may be silent, so that a crowd of requests does not wait in turns.

A circuit breaker that refuses nobody who has not waited. While a dependency is silent, a request that comes
may wait for it in full, and its answer ends the silence; but what a request has waited for a thread counts,
or those at the end of the queue would wait for as many silences as there are turns before them (ADR 7).
"""

from chassis import context

# Who has waited long enough tries all the same, for the silence may just have ended.
SHORT_SECONDS = 0.1


class Silence:
    """What this process knows of one dependency's silence; its threads share it."""

    def __init__(self, at_most: float) -> None:
        """Let one wait last so many seconds at most."""
        self._at_most = at_most
        self._silent = False

    def seconds(self) -> float:
        """Return how long one wait may last now."""
        at_most = self._at_most
        if self._silent:
            at_most = max(SHORT_SECONDS, at_most - context.seconds_since_arrival())
        return context.seconds_left(at_most)

    def begins(self, after: float) -> None:
        """Note that nothing came within these seconds; a wait cut to less than half tells nothing."""
        self._silent = self._silent or after >= self._at_most / 2

    def ends(self) -> None:
        """Note an answer."""
        self._silent = False
