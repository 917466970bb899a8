"""Redis: a helper that may be away, never the only copy of anything that matters."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from chassis.config import ServiceSettings
from chassis.errors import DependencyAway

SURROUNDINGS = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.OutOfMemoryError,
    redis.ReadOnlyError,
    redis.exceptions.ClusterDownError,
)
# The client has no class for some answers, and adds words before those of a transaction or a script.
INABILITY = re.compile(r"(?:^|: -?)(?:MISCONF|NOREPLICAS|OOM|READONLY|BUSY|LOADING|CLUSTERDOWN|MASTERDOWN) ")


def make_redis(settings: ServiceSettings) -> redis.Redis:
    """Make a client that waits 0.3 s at most and retries once, for a connection gone stale."""
    return redis.Redis(
        host=settings.redis_host,
        port=settings.redis_port,
        password=settings.redis_password.get_secret_value() or None,
        socket_timeout=0.3,
        socket_connect_timeout=0.3,
        retry=Retry(NoBackoff(), 1),
        decode_responses=True,
    )


def is_redis_away(error: redis.RedisError) -> bool:
    """Tell a failure of the surroundings (away, full, read-only, busy) from a mistake in what was asked."""
    return isinstance(error, SURROUNDINGS) or INABILITY.search(str(error)) is not None


@contextmanager
def redis_needed() -> Iterator[None]:
    """Turn a Redis that is away, or can't do what is asked of it now, into `DependencyAway`."""
    try:
        yield
    except redis.RedisError as error:
        if not is_redis_away(error):
            raise
        raise DependencyAway("redis") from error


def hit(client: redis.Redis, name: str, *, seconds: int) -> tuple[int, int]:
    """Count one more of `name` in its window; return the count and the seconds until it starts anew."""
    key = f"limit:{name}"
    with redis_needed():
        pipeline = client.pipeline(transaction=True)
        pipeline.incr(key)
        pipeline.expire(key, seconds, nx=True)
        pipeline.ttl(key)
        count, _, left = pipeline.execute()
    return int(count), max(1, int(left))
