"""A password that was changed in .env counts from the next start, and the old one no more."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from deploy.local.addresses import choose_ports
from deploy.local.layout import Layout
from deploy.local.ports import free_ports
from deploy.local.programs import Child
from deploy.local.rabbitmq import RabbitMQ
from deploy.local.redis import Redis
from deploy.local.services import SERVICES, Place, service_programs
from deploy.local.settings import Settings, read_values
from deploy.setup.checks import SECRETS
from tests.servers import REPOSITORY, RabbitMQServer, scratch_folder

EXAMPLE = read_values(REPOSITORY / ".env.example") | {"HTTP_PORT": "8080"}
# The two that no service has: the set-up steps apply them (tests/deploy/test_databases.py, and below).
ADMINISTRATION = {"POSTGRES_PASSWORD", "RABBITMQ_DEFAULT_PASS"}


def admits(port: int, password: str) -> bool:
    client = redis.Redis("127.0.0.1", port, password=password)
    try:
        return bool(client.ping())
    except redis.exceptions.AuthenticationError:
        return False
    finally:
        client.close()


def test_redis_takes_the_new_one_and_keeps_its_data() -> None:
    with scratch_folder("redis") as folder:
        first = Redis(folder / "data", free_ports(1)[0], "first")
        for server, other in ((first, "second"), (replace(first, password="second"), "first")):
            program = server.prepare()
            child = Child(program, folder / "log")
            child.start()
            try:
                child.wait_until(server.is_ready)
                assert admits(server.port, server.password)
                assert not admits(server.port, other)
                client = redis.Redis("127.0.0.1", server.port, password=server.password)
                assert client.incr("starts") == (1 if server is first else 2)
                client.close()
            finally:
                child.stop()


def test_redis_is_started_anew_for_it() -> None:
    with scratch_folder("redis") as folder:
        server = Redis(folder / "data", 6379, "first")
        assert server.prepare() == server.prepare()
        assert server.prepare() != replace(server, password="second").prepare()


@pytest.fixture
def broker(rabbitmq_server: RabbitMQServer) -> Iterator[RabbitMQ]:
    """Yield the broker, and give its administrator back the password that other tests expect."""
    yield rabbitmq_server.broker
    rabbitmq_server.broker.set_administrator()


def test_rabbitmq_gives_its_administrator_the_new_one(broker: RabbitMQ) -> None:
    changed = replace(broker, password="another")
    assert broker.admits_administrator()
    assert not changed.admits_administrator()
    changed.set_administrator()
    assert changed.admits_administrator()
    assert not broker.admits_administrator()


@pytest.mark.parametrize("name", sorted(set(SECRETS) - ADMINISTRATION))
def test_who_uses_it_is_started_anew_and_nobody_else(name: str, tmp_path: Path) -> None:
    ports = choose_ports(Settings(EXAMPLE))
    place = Place(Layout(tmp_path, tmp_path), ports, tmp_path, tmp_path, "http://localhost")
    before = service_programs(Settings(EXAMPLE), place)
    after = service_programs(Settings(EXAMPLE | {name: "another-one-0123456789abcdef-0123456789"}), place)
    changed = {old.name for old, new in zip(before, after, strict=True) if old != new}
    assert changed
    others = [service for service in SERVICES if f"{service.upper()}_DB_PASSWORD" != name]
    if name.endswith("_DB_PASSWORD"):
        assert not [process for process in changed if process.partition("-")[0] in others]
