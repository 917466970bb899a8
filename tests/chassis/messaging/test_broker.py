"""The connection to a real broker: every wait ends, every refusal says why."""

import socket
import time
from contextlib import closing

import pytest
from pydantic import SecretStr

from chassis.broker import BrokerAway, BrokerRefused, Link, Publisher, broker_reachable
from tests.chassis.messaging.sample import QUEUE


def test_the_broker_is_reachable_with_the_right_password_alone(settings, broker):
    assert broker_reachable(settings)
    assert not broker_reachable(settings.model_copy(update={"amqp_password": SecretStr("wrong")}))


def test_a_port_where_nobody_listens_is_a_broker_away(settings):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(BrokerAway):
        Link(settings.model_copy(update={"amqp_port": port}), "test")


def test_a_server_that_says_nothing_is_a_broker_away_within_6_s(settings):
    with socket.create_server(("127.0.0.1", 0)) as server:
        started = time.monotonic()
        with pytest.raises(BrokerAway):
            Link(settings.model_copy(update={"amqp_port": server.getsockname()[1]}), "test")
    assert time.monotonic() - started < 6


def test_counting_needs_no_permission_on_the_queue(settings, broker):
    broker.publish(b"x")
    with closing(Link(settings, "test")) as link:
        assert link.count(QUEUE) == 1
        assert link.count("order.events") == 1


def test_a_queue_that_is_not_there_is_refused_with_the_reason(settings, broker):
    with closing(Link(settings, "test")) as link, pytest.raises(BrokerRefused, match="NOT_FOUND"):
        link.count("nowhere")


def test_a_queue_of_another_service_is_refused(settings, broker):
    with closing(Link(settings, "test")) as link, pytest.raises(BrokerRefused, match="ACCESS_REFUSED"):
        link.consume("user.events", 1, print)


def test_what_is_not_answered_goes_back_and_what_is_acknowledged_does_not(settings, broker):
    broker.publish(b"1")
    broker.publish(b"2")
    taken = []
    with closing(Link(settings, "test")) as link:
        link.consume(QUEUE, 20, taken.append)
        link.pump(5, lambda: len(taken) == 2)
        link.ack(taken[0])
    assert [message.body for message in broker.drain(QUEUE, 1)] == [b"2"]


def test_a_prefetch_bounds_what_is_delivered(settings, broker):
    for _ in range(5):
        broker.publish(b"x")
    taken = []
    with closing(Link(settings, "test")) as link:
        link.consume(QUEUE, 2, taken.append)
        link.pump(0.5)
    assert len(taken) == 2


def test_a_message_for_which_no_queue_is_bound_is_returned_and_others_are_confirmed(settings, broker):
    with closing(Publisher(settings, "test")) as publisher:
        lost = publisher.publish(routing_key="nobody.cares", message_id="1", body=b"x")
        kept = publisher.publish(routing_key="order.paid", message_id="2", body=b"x")
        answers = []
        while len(answers) < 2:
            answers += publisher.pump(5)
    errors = {answer.tag: answer.error for answer in answers}
    assert errors == {lost: "returned: 312 NO_ROUTE", kept: None}


def test_many_messages_get_one_answer_each(settings, broker):
    with closing(Publisher(settings, "test")) as publisher:
        tags = [publisher.publish(routing_key="order.paid", message_id=str(n), body=b"x") for n in range(500)]
        answers = []
        while len(answers) < 500:
            answers += publisher.pump(5)
    assert sorted(answer.tag for answer in answers) == tags
    assert broker.count(QUEUE) == 500


def test_a_connection_that_is_cut_is_noticed_at_once(cut_off, broker):
    settings, proxy = cut_off("amqp")
    with closing(Link(settings, "test")) as link:
        proxy.cut(refuse=False)
        started = time.monotonic()
        with pytest.raises(BrokerAway):
            link.pump(10)
        assert time.monotonic() - started < 1


def test_publishing_into_a_lost_connection_is_a_broker_away(cut_off, broker):
    settings, proxy = cut_off("amqp")
    with closing(Publisher(settings, "test")) as publisher:
        proxy.cut(refuse=False)
        with pytest.raises(BrokerAway):
            publisher.pump(10)
        with pytest.raises(BrokerAway):
            publisher.publish(routing_key="order.paid", message_id="1", body=b"x")
