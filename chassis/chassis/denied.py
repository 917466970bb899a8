"""The deny list: whose access tokens are refused before they expire."""

import threading
import time
from collections.abc import Sequence

import redis

from chassis.cache import redis_needed
from chassis.logs import get_logger
from chassis.tokens import ACCESS_SECONDS, Identity

DENIED_KEY, DENIED_VERSION_KEY = "auth:denied", "auth:denied:version"
DENIED_REFRESH_SECONDS = 0.5
# Then the last token has expired, by any service's clock.
DENIED_SECONDS = ACCESS_SECONDS + 60

log = get_logger(__name__)


class DenyList:
    """Ended sessions, disabled users and roles that users have lost.

    Held in memory and refreshed from Redis every 0.5 s. While Redis is away the last copy goes on.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._denied: frozenset[str] = frozenset()
        self._version: str | None = ""
        self._fresh = True
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def holds(self, identity: Identity) -> bool:
        """Tell whether the session has ended, the user is disabled or has another role now."""
        self._start()
        refused = (
            f"session:{identity.session_id}",
            f"user:{identity.user_id}",
            _role(identity.user_id, identity.role),
        )
        return not self._denied.isdisjoint(refused)

    def refresh(self) -> None:
        """Read the list again when its version in Redis has changed."""
        version = self._redis.get(DENIED_VERSION_KEY)
        if version != self._version:
            members = self._redis.zrangebyscore(DENIED_KEY, time.time(), "+inf")
            self._denied, self._version = frozenset(members), version  # type: ignore[arg-type,assignment]

    def _start(self) -> None:
        """Start the refreshing thread at the first use, so that building an app starts none."""
        if self._thread is not None:
            return
        with self._lock:
            if self._thread is None:
                self._try_refresh()
                self._thread = threading.Thread(target=self._loop, name="deny-list", daemon=True)
                self._thread.start()

    def _loop(self) -> None:
        while not self._closed.wait(DENIED_REFRESH_SECONDS):
            self._try_refresh()

    def close(self) -> None:
        """Refresh it no more; whoever closes the client does this first."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _try_refresh(self) -> None:
        try:
            self.refresh()
        except redis.RedisError as error:
            # Once an outage, for this comes twice a second.
            if self._fresh:
                log.warning("deny list not refreshed", reason=type(error).__name__)
            self._fresh = False
        else:
            self._fresh = True


def deny(client: redis.Redis, *, sessions: Sequence[str] = (), users: Sequence[int] = ()) -> None:
    """Refuse these sessions' and users' access tokens everywhere until the last of them has expired."""
    with redis_needed(), client.pipeline(transaction=True) as pipeline:
        queue_denials(pipeline, sessions=sessions, users=users)
        pipeline.execute()


def queue_denials(
    pipeline: redis.client.Pipeline, *, sessions: Sequence[str] = (), users: Sequence[int] = ()
) -> None:
    """Let a transaction refuse these, so that it happens together with what else is in it or not at all."""
    now = time.time()
    members = [f"session:{session}" for session in sessions] + [f"user:{user}" for user in users]
    pipeline.zremrangebyscore(DENIED_KEY, "-inf", now)
    if members:
        pipeline.zadd(DENIED_KEY, dict.fromkeys(members, now + DENIED_SECONDS))
    pipeline.incr(DENIED_VERSION_KEY)


def allow_user(client: redis.Redis, user_id: int) -> None:
    """Take an enabled user off the deny list."""
    with redis_needed():
        pipeline = client.pipeline(transaction=True)
        pipeline.zrem(DENIED_KEY, f"user:{user_id}")
        pipeline.incr(DENIED_VERSION_KEY)
        pipeline.execute()


def change_role(client: redis.Redis, user_id: int, *, old: str, new: str) -> None:
    """Refuse the user's access tokens of the old role everywhere; those of the new one are good."""
    now = time.time()
    with redis_needed():
        pipeline = client.pipeline(transaction=True)
        pipeline.zadd(DENIED_KEY, {_role(user_id, old): now + DENIED_SECONDS})
        pipeline.zrem(DENIED_KEY, _role(user_id, new))
        pipeline.incr(DENIED_VERSION_KEY)
        pipeline.execute()


def _role(user_id: int, role: str) -> str:
    return f"role:{user_id}:{role}"
