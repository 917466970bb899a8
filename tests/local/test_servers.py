"""The throw-away servers answer, ask for their passwords, and are gone afterwards."""

import urllib.request

import pika
import pytest
import redis

from deploy.local.ports import is_free
from tests.servers import PostgresServer, RabbitMQServer, RedisServer, run_redis


def test_a_new_database_is_empty_and_writable(postgres_server: PostgresServer) -> None:
    database = postgres_server.make_database("local_first")
    connection = database.connect()
    with connection, connection.cursor() as cursor:
        cursor.execute("create table t (name text)")
        cursor.execute("insert into t values ('保温杯') returning length(name)")
        assert cursor.fetchone() == (3,)
    connection.close()


def test_a_database_is_copied_from_a_template(postgres_server: PostgresServer) -> None:
    template = postgres_server.make_database("local_template")
    connection = template.connect()
    with connection, connection.cursor() as cursor:
        cursor.execute("create table t as select 1 as one")
    connection.close()
    connection = postgres_server.make_database("local_copy", "local_template").connect()
    with connection, connection.cursor() as cursor:
        cursor.execute("select one from t")
        assert cursor.fetchone() == (1,)
    connection.close()


def test_redis_wants_its_password(redis_server: RedisServer) -> None:
    right = redis.Redis(redis_server.host, redis_server.port, password=redis_server.password)
    assert right.ping()
    right.close()
    wrong = redis.Redis(redis_server.host, redis_server.port, password="another")
    with pytest.raises(redis.AuthenticationError):
        wrong.ping()
    wrong.close()


def test_rabbitmq_takes_messages_and_shows_its_page(rabbitmq_server: RabbitMQServer) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq_server.url))
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.basic_publish("", queue, b"hello")
    assert channel.basic_get(queue, auto_ack=True)[2] == b"hello"
    connection.close()
    with urllib.request.urlopen(rabbitmq_server.management_url) as page:
        assert page.status == 200


def test_a_stopped_server_leaves_its_port() -> None:
    with run_redis() as server:
        assert not is_free(server.port)
    assert is_free(server.port)
