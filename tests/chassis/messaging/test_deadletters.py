"""Dead letters: seen with their reasons, put back without a loss."""

from contextlib import closing
from types import SimpleNamespace

import orjson
import pytest
from flask import Flask

from chassis import consuming, deadletters
from chassis.broker import Link
from chassis.consuming import Receiver
from chassis.inbox import Consumer, note_failure
from tests.chassis.messaging.conftest import running, wait_for
from tests.chassis.messaging.sample import QUEUE, effects, make_effect
from tests.chassis.messaging.test_consuming import document

DEAD = f"{QUEUE}.dead"


def bury(broker, *bodies: bytes) -> None:
    """Put messages among the dead letters, as a consumer does."""
    for body in bodies:
        broker.publish(body)
    taken = []
    with closing(Link(broker.admin, "bury")) as link:
        link.consume(QUEUE, 100, taken.append)
        link.pump(5, lambda: len(taken) == len(bodies))
        for message in taken:
            link.reject(message)
        link.count(QUEUE)
    wait_for(lambda: broker.count(DEAD) == len(bodies))


@pytest.fixture
def flask(app):
    """Return a function that runs a command of the service."""

    def run(*arguments: str):
        return app.test_cli_runner().invoke(args=["dead-letters", *arguments])

    return run


def test_without_the_database_the_list_lacks_only_the_reasons(broker, stranded):
    bury(broker, document(1))
    done = stranded.test_cli_runner().invoke(args=["dead-letters", "list"])
    assert done.exit_code == 0
    assert done.output.splitlines()[1].endswith("rejected")


@pytest.mark.parametrize("command", ["list", "replay"])
def test_a_service_that_reads_no_queue_says_so(command):
    app = Flask("quiet")
    app.config["SETTINGS"] = SimpleNamespace(service="quiet-service")
    deadletters.register_commands(app)
    done = app.test_cli_runner().invoke(args=["dead-letters", command])
    assert (done.exit_code, done.output) == (0, "quiet-service reads no queue.\n")


def event_id(body: bytes) -> str:
    return orjson.loads(body)["id"]


def test_the_list_names_each_dead_letter_with_its_reason_and_takes_none(session, broker, flask):
    poisoned = document(1)
    note_failure(session, QUEUE, event_id(poisoned), "ValueError: a bad message", limit=1)
    bury(broker, poisoned, b"nonsense")
    for _ in range(2):
        output = flask("list").output
        lines = output.splitlines()
        assert lines[0] == f"{QUEUE}: 2"
        assert lines[1].split()[:3] == [event_id(poisoned), "order.paid", "1"]
        assert lines[1].endswith("ValueError: a bad message")
        assert "malformed" in lines[2]
        wait_for(lambda: broker.count(DEAD) == 2)


def test_one_dead_letter_is_shown_whole(broker, flask):
    body = document(1, name="whole")
    bury(broker, document(2), body)
    output = flask("show", "--queue", QUEUE, "--id", event_id(body)).output
    assert body.decode() in output
    assert '"reason": "rejected"' in output
    assert flask("show", "--id", "unknown").exit_code == 1


def test_a_replayed_dead_letter_has_its_effect_once_and_others_stay(session, broker, flask, app):
    bodies = [document(n) for n in range(1, 4)]
    bury(broker, *bodies)
    assert f"{QUEUE}: 1 put back" in flask("replay", "--id", event_id(bodies[1])).output
    consumer = Consumer(QUEUE, {"order.paid": make_effect})
    with running(Receiver(app, consumer, lambda: Link(broker.settings, "consumer"), lambda: None).run):
        wait_for(lambda: len(effects(session)) == 1)
        wait_for(lambda: broker.count(DEAD) == 2)
        assert f"{QUEUE}: 2 put back" in flask("replay").output
        wait_for(lambda: len(effects(session)) == 3)
    assert sorted(sequence for _, sequence in effects(session)) == [1, 2, 3]
    assert (broker.count(QUEUE), broker.count(DEAD)) == (0, 0)


def test_a_replayed_message_that_is_still_bad_is_dead_again_after_its_attempts(
    broker, flask, app, monkeypatch
):
    monkeypatch.setattr(consuming, "RETRY_SECONDS", 0.02)
    calls = []

    def fail(_session, event) -> None:
        calls.append(event.id)
        raise ValueError("still bad")

    broker.publish(document(1))
    consumer = Consumer(QUEUE, {"order.paid": fail})
    with running(Receiver(app, consumer, lambda: Link(broker.settings, "consumer"), lambda: None).run):
        wait_for(lambda: broker.count(DEAD) == 1)
        assert len(calls) == 5
        flask("replay")
        wait_for(lambda: len(calls) == 10)
        wait_for(lambda: broker.count(DEAD) == 1)


def test_an_unknown_id_or_queue_is_an_error(broker, flask):
    assert flask("replay", "--id", "unknown").exit_code == 1
    result = flask("list", "--queue", "user.events")
    assert result.exit_code == 1
    assert "user.events is no queue of product-service" in result.output


def test_a_broker_away_is_one_sentence(app, flask, monkeypatch):
    monkeypatch.setitem(app.config, "SETTINGS", app.config["SETTINGS"].model_copy(update={"amqp_port": 1}))
    result = flask("list")
    assert result.exit_code == 1
    assert result.output.startswith("RabbitMQ: ")
