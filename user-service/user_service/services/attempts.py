"""How often somebody may try: failures per account, requests per address."""

import hashlib
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from chassis.cache import hit, redis_needed
from chassis.errors import DependencyAway
from chassis.service import rate_limited
from user_service.services.unanswered import Unanswered

ACCOUNT_WINDOW_SECONDS = 15 * 60
ADDRESS_WINDOW_SECONDS = 60
MOST_MAILS = 5
MOST_COUNTERS = 10_000

# KEYS: the account's failed tries. ARGV: the mark of this one, how many may be, seconds. A set of marks, so
# that a repeated call counts once; it never holds more than may be.
TRY = """
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[3], 'NX')
local count = redis.call('SCARD', KEYS[1])
if count > tonumber(ARGV[2]) then redis.call('SREM', KEYS[1], ARGV[1]) end
return {count, redis.call('TTL', KEYS[1])}
"""


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
        self._try = client.register_script(TRY)
        self._unanswered: Unanswered[str] = Unanswered(ACCOUNT_WINDOW_SECONDS)

    @contextmanager
    def counted(self, account: str) -> Iterator[None]:
        """Count a try as failed, unless the block says `forgive`; 429 when there were too many.

        Counting first keeps parallel tries within the limit. The window starts with its first
        failure and nothing prolongs it, so the owner is kept out for 15 minutes at most. A try that
        gets no answer because Redis is away is no failure: the next one takes its place.
        """
        mark = self._unanswered.take(account) or uuid.uuid4().hex
        try:
            self._count_try(account, mark)
            yield
        except DependencyAway:
            self._unanswered.keep(account, mark)
            raise

    def _count_try(self, account: str, mark: str) -> None:
        if not self._per_account:
            return
        with redis_needed():
            count, left = self._try(
                keys=[_key(account)], args=[mark, self._per_account, ACCOUNT_WINDOW_SECONDS]
            )
        if count > self._per_account:
            raise rate_limited(max(1, left))

    def forgive(self, account: str) -> None:
        """Forget the account's failures: its owner has come."""
        if self._per_account:
            with redis_needed():
                self._redis.delete(_key(account))

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


def _key(account: str) -> str:
    """Name where an account's tries are; hashed, because what was typed as a name may be a password."""
    return "limit:tries:" + hashlib.sha256(account.encode()).hexdigest()
