"""What the broker's set-up step makes of a real broker."""

import json
import time
from collections.abc import Iterator

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker, ProbableAuthenticationError

from deploy.setup.rabbitmq import TOPOLOGY, BrokerError, Management, apply_topology
from tests.servers import RabbitMQServer

WANTED = json.loads(TOPOLOGY.read_text())
PASSWORDS = {user["password_from"]: f"password-of-{name}" for name, user in WANTED["users"].items()}


@pytest.fixture
def management(rabbitmq_server: RabbitMQServer) -> Iterator[Management]:
    """Yield a broker that was set up twice; leave it with the passwords that other tests expect."""
    server = rabbitmq_server
    management = Management(server.host, server.management_port, server.user, server.password)
    apply_topology(management, PASSWORDS)
    apply_topology(management, PASSWORDS)
    yield management
    apply_topology(management, dict.fromkeys(PASSWORDS, server.service_password))


def connect(server: RabbitMQServer, user: str, password: str | None = None) -> pika.BlockingConnection:
    password = password or PASSWORDS[WANTED["users"][user]["password_from"]]
    credentials = pika.PlainCredentials(user, password)
    return pika.BlockingConnection(
        pika.ConnectionParameters(server.host, server.port, credentials=credentials)
    )


@pytest.fixture
def channel(
    rabbitmq_server: RabbitMQServer, management: Management, request: pytest.FixtureRequest
) -> Iterator[BlockingChannel]:
    """Yield a channel of the user that the test names."""
    del management  # It only had to come first.
    connection = connect(rabbitmq_server, request.param)
    opened = connection.channel()
    opened.confirm_delivery()
    yield opened
    connection.close()


def test_each_queue_and_its_dead_letters_are_quorum_queues(management: Management) -> None:
    expected = {name for base in WANTED["queues"] for name in (base, f"{base}.dead")}
    assert {queue["name"] for queue in management.get("queues/%2F") if queue["type"] == "quorum"} == expected


def test_each_queue_has_its_own_policy(management: Management) -> None:
    deadline = time.monotonic() + 15  # The broker counts anew every 5 s.
    expected = {name: name for base in WANTED["queues"] for name in (base, f"{base}.dead")}
    while (found := {q["name"]: q.get("policy") for q in management.get("queues/%2F")}) != expected:
        assert time.monotonic() < deadline, found
        time.sleep(0.5)


@pytest.mark.parametrize("base", WANTED["queues"])
def test_a_queue_loses_nothing_by_its_policy(management: Management, base: str) -> None:
    dead = f"{base}.dead"
    for queue, other, limit in ((base, dead, 100), (dead, base, 1_000_000)):
        # Without a length limit; what is rejected stays until the other queue has it.
        assert management.get(f"policies/%2F/{queue}")["definition"] == {
            "dead-letter-exchange": "",
            "dead-letter-routing-key": other,
            "dead-letter-strategy": "at-least-once",
            "overflow": "reject-publish",
            "delivery-limit": limit,
        }


def test_events_reach_the_queues_that_are_bound_to_them(management: Management) -> None:
    bindings = management.get("exchanges/%2F/ecommerce.events/bindings/source")
    expected = {(name, queue["binding"]) for name, queue in WANTED["queues"].items() if queue["binding"]}
    assert {(binding["destination"], binding["routing_key"]) for binding in bindings} == expected


def test_the_built_in_user_and_users_of_earlier_settings_are_gone(management: Management) -> None:
    management.put("users/guest", {"password": "guest", "tags": "administrator"})
    management.put("users/former_admin", {"password": "x", "tags": "administrator,ecommerce"})
    management.put("users/somebody_elses", {"password": "x", "tags": "monitoring"})
    apply_topology(management, PASSWORDS)
    names = {user["name"] for user in management.get("users")}
    management.delete("users/somebody_elses")
    assert names == {management.user, "somebody_elses", *WANTED["users"]}


def test_a_changed_password_counts_at_the_next_start(
    rabbitmq_server: RabbitMQServer, management: Management
) -> None:
    apply_topology(management, PASSWORDS | {"ORDER_AMQP_PASSWORD": "another-one"})
    connect(rabbitmq_server, "order_service", "another-one").close()
    with pytest.raises(ProbableAuthenticationError):
        connect(rabbitmq_server, "order_service")


def test_a_missing_password_is_named(management: Management) -> None:
    with pytest.raises(BrokerError, match="ORDER_AMQP_PASSWORD"):
        apply_topology(management, {**PASSWORDS, "ORDER_AMQP_PASSWORD": ""})


def test_a_wrong_administrator_is_reported_without_waiting_for_ever(management: Management) -> None:
    wrong = Management(management.host, management.port, management.user, "wrong")
    with pytest.raises(BrokerError, match="RABBITMQ_DEFAULT_USER"):
        wrong.wait(1)


@pytest.mark.parametrize("channel", WANTED["users"], indirect=True)
def test_a_service_publishes_events_but_makes_nothing(channel: BlockingChannel) -> None:
    channel.basic_publish("ecommerce.events", "test.nobody.listens", b"{}")
    with pytest.raises(ChannelClosedByBroker, match=r"access to queue 'mine'"):
        channel.queue_declare("mine")


@pytest.mark.parametrize("channel", ["order_service"], indirect=True)
def test_a_service_cannot_read_the_queue_of_another(channel: BlockingChannel) -> None:
    with pytest.raises(ChannelClosedByBroker, match=r"access to queue 'order\.events'"):
        channel.basic_get("order.events")


@pytest.mark.parametrize("channel", ["user_service", "product_service", "order_service"], indirect=True)
def test_only_the_notification_service_sends_tasks(channel: BlockingChannel) -> None:
    with pytest.raises(ChannelClosedByBroker, match=r"access to exchange 'amq\.default'"):
        channel.basic_publish("", "notification.tasks", b"{}")


@pytest.mark.parametrize("channel", ["notification_service"], indirect=True)
def test_a_rejected_message_waits_among_the_dead_letters(channel: BlockingChannel) -> None:
    channel.basic_publish("", "notification.tasks", b"task", pika.BasicProperties(delivery_mode=2))
    channel.basic_qos(prefetch_count=1)
    method, _, body = next(channel.consume("notification.tasks", inactivity_timeout=10))
    assert (method and body) == b"task"
    channel.basic_reject(method.delivery_tag, requeue=False)
    channel.cancel()
    method, _, body = next(channel.consume("notification.tasks.dead", inactivity_timeout=10))
    assert (method and body) == b"task"
    channel.basic_ack(method.delivery_tag)
    channel.cancel()
