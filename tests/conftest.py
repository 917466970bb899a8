"""Servers that tests share: started by the first test that asks, stopped after the last one."""

import os
from collections.abc import Iterator

import pytest
import redis

from chassis.denied import DENIED_KEY, DENIED_VERSION_KEY
from tests.e2e.suite import Suite, suite_from_environment
from tests.servers import (
    PostgresServer,
    RabbitMQServer,
    RedisServer,
    run_postgres,
    run_rabbitmq,
    run_redis,
)

RUNNING_REDIS: list[RedisServer] = []


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Yield a real PostgreSQL; `make_database(name)` gives an empty database in some 50 ms."""
    with run_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """Yield a real Redis with a password."""
    with run_redis() as server:
        RUNNING_REDIS.append(server)
        yield server
        RUNNING_REDIS.clear()


@pytest.fixture(scope="module", autouse=True)
def nobody_denied() -> None:
    """Empty the deny list between files: the users of one are not those of another."""
    for server in RUNNING_REDIS:
        with redis.Redis(server.host, server.port, password=server.password) as client:
            client.delete(DENIED_KEY)
            client.incr(DENIED_VERSION_KEY)


@pytest.fixture(scope="session")
def rabbitmq_server() -> Iterator[RabbitMQServer]:
    """Yield a real RabbitMQ with the suite's topology; it takes some 8 s to start."""
    with run_rabbitmq() as server:
        yield server


@pytest.fixture(scope="session")
def running_suite() -> Iterator[Suite]:
    """Yield the suite under test: a plain one of our own, or the one that `SHOP_URL` names."""
    if "SHOP_URL" in os.environ:
        yield suite_from_environment()
        return
    from tests.e2e.local_suite import run_suite

    with run_suite() as suite:
        yield suite
