"""Real servers for tests: PostgreSQL, Redis and RabbitMQ on free ports, thrown away at the end."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2
from psycopg2 import sql

from deploy.local.ports import free_ports
from deploy.local.postgres import SUPERUSER, Postgres
from deploy.local.programs import Child
from deploy.local.rabbitmq import RabbitMQ
from deploy.local.redis import Redis
from deploy.local.trial import scratch_folder

REPOSITORY = Path(__file__).resolve().parents[1]
PASSWORD = "only-for-tests"
SERVICES = ("USER", "PRODUCT", "ORDER", "NOTIFICATION")
# Nothing of a test outlives it, so nothing has to reach the disk.
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off"}
# Every app of a whole run keeps its pool.
ROOMY = {"max_connections": "500"}


@dataclass(frozen=True)
class Database:
    """Name one database and the login to it."""

    host: str
    port: int
    name: str
    user: str
    password: str

    @property
    def url(self) -> str:
        """Return SQLAlchemy's URL of the database."""
        return f"postgresql+psycopg2://{self.user}:{self.password}@{self.host}:{self.port}/{self.name}"

    def connect(self) -> "psycopg2.extensions.connection":
        """Open a plain connection."""
        return psycopg2.connect(
            host=self.host, port=self.port, dbname=self.name, user=self.user, password=self.password
        )


@dataclass(frozen=True)
class PostgresServer:
    """A running PostgreSQL and its superuser."""

    host: str
    port: int
    user: str
    password: str
    child: Child

    def make_database(self, name: str, template: str = "template0") -> Database:
        """Make the database `name` anew, owned by the superuser; a `template` is copied with all it holds."""
        self.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)),
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)),
        )
        return self.database(name)

    def database(self, name: str) -> Database:
        """Return the login of the superuser to the database `name`."""
        return Database(self.host, self.port, name, self.user, self.password)

    def execute(self, *statements: "sql.Composable | str") -> None:
        """Run statements in the maintenance database, each in a transaction of its own."""
        connection = self.database("postgres").connect()
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
        finally:
            connection.close()


@dataclass(frozen=True)
class RedisServer:
    """A running Redis and its password."""

    host: str
    port: int
    password: str
    child: Child


@dataclass(frozen=True)
class RabbitMQServer:
    """A running RabbitMQ, its administrator, and the services' logins (each with the same password)."""

    host: str
    port: int
    management_port: int
    user: str
    password: str
    service_password: str
    broker: RabbitMQ
    child: Child

    @property
    def management_url(self) -> str:
        """Return the address of the management API."""
        return self.broker.management_url

    @property
    def url(self) -> str:
        """Return the administrator's AMQP URL."""
        return f"amqp://{self.user}:{self.password}@{self.host}:{self.port}/%2F"


@contextmanager
def run_postgres() -> Iterator[PostgresServer]:
    """Run a PostgreSQL that forgets everything at its end."""
    with scratch_folder("test-postgres") as folder:
        server = Postgres(folder / "data", folder / "socket", free_ports(1)[0], NOT_DURABLE | ROOMY)
        child = Child(server.prepare(), folder / "log")
        child.start()
        try:
            child.wait_until(server.is_ready)
            _apply_roles(server)
            yield PostgresServer("127.0.0.1", server.port, SUPERUSER, PASSWORD, child)
        finally:
            child.kill()


@contextmanager
def run_redis(settings: str = "") -> Iterator[RedisServer]:
    """Run a Redis that forgets everything at its end; `settings` are lines behind the suite's own."""
    with scratch_folder("test-redis") as folder:
        server = Redis(folder / "data", free_ports(1)[0], PASSWORD, durable=False)
        child = Child(server.prepare(), folder / "log")
        with (server.data / "redis.conf").open("a") as configuration:
            configuration.write(f"\n{settings}\n")
        child.start()
        try:
            child.wait_until(server.is_ready)
            yield RedisServer("127.0.0.1", server.port, PASSWORD, child)
        finally:
            child.kill()


@contextmanager
def run_rabbitmq() -> Iterator[RabbitMQServer]:
    """Run a RabbitMQ with the suite's exchange, queues, users and policies."""
    with scratch_folder("test-rabbitmq") as folder:
        amqp, management, epmd_port, distribution = free_ports(4)
        broker = RabbitMQ(
            folder / "data", amqp, management, epmd_port, distribution, user="admin", password=PASSWORD
        )
        epmd, server = (Child(program, folder / program.name) for program in broker.prepare())
        try:
            epmd.start()
            epmd.wait_until(broker.port_mapper_is_ready)
            server.start()
            server.wait_until(broker.is_ready, 90)
            _apply_topology(broker)
            yield RabbitMQServer(
                "127.0.0.1", broker.port, broker.management_port, "admin", PASSWORD, PASSWORD, broker, server
            )
        finally:
            server.kill()
            epmd.kill()


def _apply_roles(server: Postgres) -> None:
    passwords = {f"{name}_DB_PASSWORD": PASSWORD for name in SERVICES} | {"POSTGRES_PASSWORD": PASSWORD}
    server.apply_roles(REPOSITORY / "database/init-scripts/10-roles-and-databases.sh", passwords)


def _apply_topology(broker: RabbitMQ) -> None:
    script = REPOSITORY / "deploy/setup/rabbitmq.py"
    logins = {f"{name}_AMQP_PASSWORD": PASSWORD for name in SERVICES}
    settings = {
        "RABBITMQ_HOST": "127.0.0.1",
        "RABBITMQ_MANAGEMENT_PORT": str(broker.management_port),
        "RABBITMQ_DEFAULT_USER": broker.user,
        "RABBITMQ_DEFAULT_PASS": broker.password,
    }
    subprocess.run([sys.executable, str(script)], env={**os.environ, **settings, **logins}, check=True)
