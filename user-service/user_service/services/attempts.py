"""How often somebody may try: failures per account, requests per address."""

import hashlib
import threading
import time

import redis

from chassis.cache import forget, hit
from chassis.errors import DependencyAway
from chassis.service import rate_limited

ACCOUNT_WINDOW_SECONDS = 15 * 60
ADDRESS_WINDOW_SECONDS = 60
MOST_MAILS = 5
MOST_COUNTERS = 10_000


class LocalCounter:
    """Counts in this process alone, for the time that Redis is away."""

    def __init__(self) -> None:
        self._counts: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def hit(self, name: str, *, seconds: int) -> tuple[int, int]:
        """Count one more of `name` in its window; return the count and the seconds until it starts anew."""
        now = time.monotonic()
        with self._lock:
            if len(self._counts) >= MOST_COUNTERS:
                self._counts = {kept: value for kept, value in self._counts.items() if value[1] > now}
            count, ends = self._counts.get(name, (0, 0.0))
            if ends <= now:
                count, ends = 0, now + seconds
            if name in self._counts or len(self._counts) < MOST_COUNTERS:
                self._counts[name] = (count + 1, ends)
        return count + 1, max(1, round(ends - now))


class Attempts:
    """Counts tries in Redis; a limit of 0 is off."""

    def __init__(self, client: redis.Redis, *, per_account: int, per_address: dict[str, int]) -> None:
        self._redis, self._per_account, self._per_address = client, per_account, per_address
        self._local = LocalCounter()

    def count_try(self, account: str) -> None:
        """Count a try as failed until `forgive`; 429 when there were too many.

        Counting first keeps parallel tries within the limit. The window starts with its first
        failure and nothing prolongs it, so the owner is kept out for 15 minutes at most.
        """
        if not self._per_account:
            return
        count, left = hit(self._redis, _name(account), seconds=ACCOUNT_WINDOW_SECONDS)
        if count > self._per_account:
            raise rate_limited(left)

    def forgive(self, account: str) -> None:
        """Forget the account's failures: its owner has come."""
        if self._per_account:
            forget(self._redis, _name(account))

    def count_request(self, action: str, address: str) -> None:
        """Count a request of an address; 429 when it is one too many."""
        most = self._per_address[action]
        if not most:
            return
        count, left = self._hit(f"{action}:{address}", ADDRESS_WINDOW_SECONDS)
        if count > most:
            raise rate_limited(left)

    def may_mail(self, account: str) -> bool:
        """Count a mail that somebody asked for; False when the account has had its share of 15 minutes."""
        count, _ = self._hit(f"mails:{account}", ACCOUNT_WINDOW_SECONDS)
        return count <= MOST_MAILS

    def count_mail(self, account: str) -> None:
        """Count a mail that the user asked for; 429 when it is one too many."""
        count, left = self._hit(f"mails:{account}", ACCOUNT_WINDOW_SECONDS)
        if count > MOST_MAILS:
            raise rate_limited(left)

    def _hit(self, name: str, seconds: int) -> tuple[int, int]:
        """Count in Redis, or else in this process."""
        try:
            return hit(self._redis, name, seconds=seconds)
        except DependencyAway:
            return self._local.hit(name, seconds=seconds)


def _name(account: str) -> str:
    """Name an account's counter; hashed, because what was typed as a name may be a password."""
    return "failures:" + hashlib.sha256(account.encode()).hexdigest()
