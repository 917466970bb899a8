"""The consumer's loop on a real broker and a real database."""

import threading
import uuid
from collections.abc import Callable

import orjson
import pytest
from sqlalchemy import select, text

from chassis import consuming, context
from chassis.broker import Link
from chassis.consuming import Receiver
from chassis.errors import DependencyAway
from chassis.inbox import Consumer, InboxEntry, InboxFailure
from tests.chassis.messaging.conftest import running, wait_for
from tests.chassis.messaging.sample import QUEUE, db, effects, make_app, make_effect

DEAD = f"{QUEUE}.dead"


@pytest.fixture(autouse=True)
def _hurry(monkeypatch) -> None:
    monkeypatch.setattr(consuming, "RETRY_SECONDS", 0.02)


def document(sequence: int = 1, event_type: str = "order.paid", **data) -> bytes:
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": str(uuid.uuid4()),
            "source": "order-service",
            "type": event_type,
            "subject": "1",
            "time": "2026-11-23T08:00:00Z",
            "data": data,
            "sequence": sequence,
            "requestid": "request-1",
        }
    )


@pytest.fixture
def receiver(app, settings) -> Callable[..., Callable[[threading.Event], None]]:
    """Return a function that makes a consumer's work."""

    def make(handler=make_effect, app=app, settings=settings):
        consumer = Consumer(QUEUE, {"order.paid": handler})
        return Receiver(app, consumer, lambda: Link(settings, "consumer"), lambda: None).run

    return make


def failures(session) -> list[tuple[int, bool, str]]:
    session.rollback()
    return list(
        session.execute(select(InboxFailure.attempts, InboxFailure.dead, InboxFailure.last_error)).all()
    )


def test_an_event_has_its_effect_and_is_acknowledged(session, broker, receiver):
    broker.publish(document(7))
    with running(receiver()):
        wait_for(lambda: [sequence for _, sequence in effects(session)] == [7])
    assert broker.count(QUEUE) == 0


def test_an_event_delivered_twice_has_one_effect(session, broker, receiver):
    body = document()
    broker.publish(body)
    broker.publish(body)
    broker.publish(document(2))
    with running(receiver()):
        wait_for(lambda: len(effects(session)) == 2)
    assert broker.count(QUEUE) == 0
    assert [sequence for _, sequence in effects(session)] == [1, 2]


def test_an_event_whose_acknowledgement_was_lost_has_one_effect(session, broker, receiver, cut_off):
    settings, proxy = cut_off("amqp")
    calls = []

    def make_effect_and_lose_the_connection(here, event) -> None:
        calls.append(event.id)
        make_effect(here, event)
        if len(calls) == 1:
            proxy.cut(refuse=False)

    broker.publish(document(1))
    broker.publish(document(2))
    with running(receiver(make_effect_and_lose_the_connection, settings=settings)):
        wait_for(lambda: len(effects(session)) == 2)
        wait_for(lambda: broker.count(QUEUE) == 0)
    assert len(calls) == 2
    assert [sequence for _, sequence in effects(session)] == [1, 2]


def test_an_event_without_a_handler_is_acknowledged(session, broker, receiver):
    broker.publish(document(1, "order.unheard"))
    broker.publish(document(2))
    with running(receiver()):
        wait_for(lambda: len(effects(session)) == 1)
    assert (broker.count(QUEUE), broker.count(DEAD)) == (0, 0)


def test_a_poisoned_message_is_dead_after_five_attempts_and_others_pass(session, broker, receiver):
    calls = []

    def handler(here, event) -> None:
        calls.append(event.sequence)
        make_effect(here, event)

    broker.publish(document(1, fail="poison"))
    for n in range(2, 40):
        broker.publish(document(n))
    with running(receiver(handler)):
        wait_for(lambda: broker.count(DEAD) == 1 and len(effects(session)) == 38)
    assert calls.count(1) == 5
    # Nobody waited for its last attempt.
    assert calls.index(2) < max(place for place, call in enumerate(calls) if call == 1)
    assert failures(session) == [(5, True, "ValueError: a bad message")]
    assert [sequence for _, sequence in effects(session)] == list(range(2, 40))


def test_attempts_are_counted_across_a_restart(session, broker, receiver):
    calls = []

    def handler(here, event) -> None:
        calls.append(event.sequence)
        make_effect(here, event)

    broker.publish(document(1, fail="poison"))
    with running(receiver(handler)):
        wait_for(lambda: len(calls) == 2)
    with running(receiver(handler)):
        wait_for(lambda: broker.count(DEAD) == 1)
    assert len(calls) == 5


@pytest.mark.parametrize("body", [b"", b"not json", b"\xff\0", b'{"specversion":"1.0"}'])
def test_a_malformed_message_is_dead_at_once_with_its_reason(session, broker, receiver, body):
    broker.publish(body)
    with running(receiver()):
        wait_for(lambda: broker.count(DEAD) == 1)
    [(attempts, dead, reason)] = failures(session)
    assert (attempts, dead) == (1, True)
    assert reason.startswith("MalformedEvent: ")


def test_a_reason_that_no_text_column_takes_is_kept_all_the_same(session, broker, receiver):
    def fail(_here, _event) -> None:
        raise ValueError("nul \0 and half a character \ud800")

    broker.publish(document())
    with running(receiver(fail)):
        wait_for(lambda: broker.count(DEAD) == 1)
    assert failures(session)[0][:2] == (5, True)


def test_a_peer_away_uses_no_attempt_however_often(session, broker, receiver, monkeypatch):
    monkeypatch.setattr(consuming, "SURROUNDINGS_SECONDS", 0.05)
    calls = []

    def handler(here, event) -> None:
        calls.append(event.sequence)
        if len(calls) <= 12:
            raise DependencyAway("peer")
        make_effect(here, event)

    broker.publish(document(1))
    broker.publish(document(2))
    with running(receiver(handler)):
        wait_for(lambda: len(effects(session)) == 2)
    # It took no other message while its surroundings were away.
    assert calls == [1] * 13 + [2]
    assert failures(session) == []
    assert broker.count(DEAD) == 0


def test_a_database_away_uses_no_attempt_and_no_delivery(session, settings, broker, cut_off):
    cut_settings, proxy = cut_off("db")
    apart = make_app(cut_settings)
    connections = []

    def connect() -> Link:
        connections.append(Link(settings, "consumer"))
        return connections[-1]

    work = Receiver(apart, Consumer(QUEUE, {"order.paid": make_effect}), connect, lambda: None).run
    with running(work):
        broker.publish(document(1))
        wait_for(lambda: len(effects(session)) == 1)
        proxy.cut(refuse=True)
        for n in range(2, 12):
            broker.publish(document(n))
        threading.Event().wait(2)
        proxy.open()
        wait_for(lambda: len(effects(session)) == 11)
    with apart.app_context():
        db.engine.dispose()
    assert failures(session) == []
    assert (broker.count(QUEUE), broker.count(DEAD)) == (0, 0)
    # It kept its messages; each one given back would count towards the broker's delivery limit.
    assert len(connections) == 1


def test_a_database_that_is_paused_uses_no_attempt(session, settings, broker, receiver, cut_off):
    cut_settings, proxy = cut_off("db")
    apart = make_app(cut_settings)
    with running(receiver(app=apart)):
        broker.publish(document(1))
        wait_for(lambda: len(effects(session)) == 1)
        proxy.pause()
        broker.publish(document(2))
        threading.Event().wait(4)
        proxy.resume()
        wait_for(lambda: len(effects(session)) == 2)
    with apart.app_context():
        db.engine.dispose()
    assert failures(session) == []


def test_connections_cut_again_and_again_lose_no_event_and_double_no_effect(
    session, broker, receiver, cut_off
):
    settings, proxy = cut_off("amqp")
    with running(receiver(settings=settings)):
        for n in range(100):
            broker.publish(document(n + 1))
            if n % 20 == 10:
                proxy.cut(refuse=False)
        wait_for(lambda: len(effects(session)) >= 100)
    sequences = [sequence for _, sequence in effects(session)]
    assert sorted(sequences) == list(range(1, 101))


def test_a_handler_sees_the_request_that_caused_the_event(session, broker, receiver):
    seen = []
    broker.publish(document())
    with running(receiver(lambda _here, _event: seen.append(context.request_id.get()))):
        wait_for(lambda: seen)
    assert seen == ["request-1"]


def test_stopping_finishes_the_present_message_and_gives_the_others_back(session, broker, receiver):
    begun, may_end = threading.Event(), threading.Event()

    def slowly(here, event) -> None:
        make_effect(here, event)
        begun.set()
        may_end.wait(5)

    for n in range(3):
        broker.publish(document(n + 1))
    with running(receiver(slowly)) as stop:
        begun.wait(5)
        stop.set()
        may_end.set()
    assert [sequence for _, sequence in effects(session)] == [1]
    assert broker.count(QUEUE) == 2


def test_effect_and_inbox_row_are_one_transaction(session, broker, receiver):
    session.execute(
        text(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE division_by_zero; END'"
        )
    )
    session.execute(text("CREATE TRIGGER refuse BEFORE INSERT ON effects EXECUTE FUNCTION refuse()"))
    session.commit()
    broker.publish(document())
    with running(receiver()):
        wait_for(lambda: broker.count(DEAD) == 1)
    assert session.scalars(select(InboxEntry)).all() == []
