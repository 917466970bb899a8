"""What Redis lets its clients do."""

from collections.abc import Iterator

import pytest
import redis

from tests.servers import REPOSITORY, RedisServer

FORBIDDEN = """
    FLUSHALL|FLUSHDB|KEYS *|CONFIG GET requirepass|CONFIG SET dir /tmp|CONFIG REWRITE|DEBUG SLEEP 0
    |SHUTDOWN NOSAVE|MODULE LIST|REPLICAOF NO ONE|SLAVEOF NO ONE|SAVE|BGSAVE|BGREWRITEAOF|MONITOR|ACL LIST
    |CLIENT LIST|CLIENT KILL ID 1|MIGRATE 127.0.0.1 1 k 0 1|RESTORE k 0 x|SWAPDB 0 1|SYNC|PSYNC ? -1
    |SLOWLOG GET|LATENCY LATEST|EVAL return(1) 0|FUNCTION LIST|FCALL f 0|SCRIPT FLUSH|FAILOVER|SORT k
    """


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    server = redis_server
    client = redis.Redis(server.host, server.port, password=server.password, decode_responses=True)
    yield client
    client.close()


@pytest.mark.parametrize("command", " ".join(FORBIDDEN.split()).split("|"))
def test_what_could_harm_the_whole_server_is_off(client: redis.Redis, command: str) -> None:
    # DEBUG is off by another setting, before anybody's permissions count.
    with pytest.raises(redis.exceptions.ResponseError, match=r"no permissions|DEBUG command not"):
        client.execute_command(*command.split())


def test_what_services_do_is_on(client: redis.Redis) -> None:
    script = client.register_script("return redis.call('HINCRBY', KEYS[1], 'n', ARGV[1])")
    assert script(keys=["allowed"], args=[3]) == 3
    with client.pipeline(transaction=True) as pipeline:
        pipeline.incr("counted")
        pipeline.expire("counted", 60, nx=True)
        pipeline.zadd("ranked", {"one": 1})
        assert pipeline.execute() == [1, True, 1]
    assert client.zrange("ranked", 0, "+inf", byscore=True) == ["one"]
    assert client.delete("allowed", "counted", "ranked") == 3
    assert client.info("server")["redis_version"]


def test_a_script_may_do_no_more_than_its_caller(client: redis.Redis) -> None:
    script = client.register_script("return redis.call('FLUSHALL')")
    with pytest.raises(redis.exceptions.RedisError, match=r"(?i)permission|can't run"):
        script()


def test_nobody_comes_in_without_the_password(redis_server: RedisServer) -> None:
    for password in (None, "another"):
        client = redis.Redis(redis_server.host, redis_server.port, password=password)
        with pytest.raises((redis.exceptions.AuthenticationError, redis.exceptions.NoPermissionError)):
            client.get("x")
        client.close()


def test_no_command_line_holds_a_password(redis_server: RedisServer) -> None:
    assert redis_server.password not in " ".join(redis_server.child.program.command)
    compose = (REPOSITORY / "docker-compose.yml").read_text()
    assert "requirepass" not in compose
