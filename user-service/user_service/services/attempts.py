"""How often somebody may try: failures per account, requests per address."""

import hashlib

import redis

from chassis.cache import forget, hit
from chassis.errors import DependencyAway
from chassis.service import rate_limited

ACCOUNT_WINDOW_SECONDS = 15 * 60
ADDRESS_WINDOW_SECONDS = 60


class Attempts:
    """Counts tries in Redis; a limit of 0 is off."""

    def __init__(self, client: redis.Redis, *, per_account: int, per_address: dict[str, int]) -> None:
        self._redis, self._per_account, self._per_address = client, per_account, per_address

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
        """Count a request of an address; 429 when it is one too many, unless Redis is away."""
        most = self._per_address[action]
        if not most:
            return
        try:
            count, left = hit(self._redis, f"{action}:{address}", seconds=ADDRESS_WINDOW_SECONDS)
        except DependencyAway:
            return
        if count > most:
            raise rate_limited(left)


def _name(account: str) -> str:
    """Name an account's counter; hashed, because what was typed as a name may be a password."""
    return "failures:" + hashlib.sha256(account.encode()).hexdigest()
