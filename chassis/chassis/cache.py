"""Redis: a helper that may be away, never the only copy of anything that matters."""

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from chassis.config import ServiceSettings
from chassis.errors import DependencyAway


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


@contextmanager
def redis_needed() -> Iterator[None]:
    """Turn a Redis that is away into `DependencyAway`."""
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError) as error:
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


def forget(client: redis.Redis, name: str) -> None:
    """Forget what `hit` has counted of `name`."""
    with redis_needed():
        client.delete(f"limit:{name}")
