"""Redis: what counts as away, and what is our own mistake."""

import pytest
import redis

from chassis.cache import hit, make_redis, redis_needed
from chassis.errors import DependencyAway
from tests.chassis.sample import Settings
from tests.servers import run_redis

AWAY = [
    "MISCONF Errors writing to the AOF file: No space left on device",
    "NOREPLICAS Not enough good replicas to write.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "READONLY You can't write against a read only replica.",
    "BUSY Redis is busy running a script.",
    "LOADING Redis is loading the dataset in memory",
    "CLUSTERDOWN The cluster is down",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "EXECABORT Transaction discarded because of: MISCONF Errors writing to the AOF file",
    "EXECABORT Transaction discarded because of: OOM command not allowed",
    # As Redis 6 tells of a script's writing.
    "ERR Error running script (call to f_0): @user_script:9: -MISCONF Errors writing to the AOF file",
]
OURS = [
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "ERR syntax error",
    "ERR unknown command 'MISCONF'",
    "NOPERM this user has no permissions to run the 'config' command",
    "EXECABORT Transaction discarded because of previous errors.",
]
ANSWER = "return redis.error_reply(ARGV[1])"


@pytest.fixture
def client(settings: Settings):
    with make_redis(settings) as client:
        yield client


@pytest.mark.parametrize("answer", AWAY)
def test_a_redis_that_can_not_do_it_now_is_away(client: redis.Redis, answer: str) -> None:
    script = client.register_script(ANSWER)
    with pytest.raises(DependencyAway), redis_needed():
        script(args=[answer])
    pipeline = client.pipeline(transaction=True)
    script(args=[answer], client=pipeline)
    with pytest.raises(DependencyAway), redis_needed():
        pipeline.execute()


@pytest.mark.parametrize("answer", OURS)
def test_a_mistake_of_ours_stays_visible(client: redis.Redis, answer: str) -> None:
    script = client.register_script(ANSWER)
    with pytest.raises(redis.ResponseError), redis_needed():
        script(args=[answer])


def test_a_bad_command_in_a_transaction_stays_visible(client: redis.Redis) -> None:
    pipeline = client.pipeline(transaction=True).execute_command("SETT", "a", "b")
    with pytest.raises(redis.ResponseError, match="SETT"), redis_needed():
        pipeline.execute()


def test_a_full_memory_is_away_until_there_is_room(settings: Settings) -> None:
    # With a Redis of its own: what has an expiry goes first when there is no room.
    with run_redis() as server, redis.Redis(server.host, server.port, password=server.password) as filler:
        own = settings.model_copy(update={"redis_port": server.port})
        filler.setrange("filler", 130 * 1024 * 1024, "x")
        with make_redis(own) as client:
            with pytest.raises(DependencyAway):
                hit(client, "somebody", seconds=60)
            filler.delete("filler")
            assert hit(client, "somebody", seconds=60) == (1, 60)
