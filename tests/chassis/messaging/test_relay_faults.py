"""The relay and a real broker that is cut off, stopped, in alarm or without a queue: all arrive, in order."""

import threading
from collections.abc import Callable

import pytest
from flask import Flask
from sqlalchemy import select, text

from chassis import outbox
from chassis.broker import Publisher
from chassis.events import Unsent
from chassis.outbox import Relay
from tests.chassis.messaging.conftest import names, running, wait_for
from tests.chassis.messaging.sample import QUEUE, Settings, db, make_app, rename


@pytest.fixture
def relay(app: Flask) -> Callable[[Settings], Callable[[threading.Event], None]]:
    """Return a function that makes the work of a relay with these settings."""
    with app.app_context():
        engine = db.engine

    def make(settings: Settings) -> Callable[[threading.Event], None]:
        return Relay(engine, lambda: Publisher(settings, "relay"), "product-service").run

    return make


def all_sent(session) -> bool:
    session.rollback()
    left = session.scalars(select(Unsent.sequence).limit(1)).first()
    session.rollback()  # A transaction left open would be ended by the server.
    return left is None


def test_a_thousand_events_of_one_subject_arrive_one_by_one_in_order(session, settings, broker, relay):
    expected = [str(n) for n in range(1000)]
    for start in range(0, 1000, 100):
        rename(session, 1, *expected[start : start + 100])
    with running(relay(settings)):
        wait_for(lambda: all_sent(session), 30)
    arrived = broker.drain(QUEUE, 1000)
    assert len(arrived) == 1000
    assert names(arrived) == {"thing-1": expected}


def test_messages_are_persistent_and_carry_their_event_id(session, settings, broker, relay):
    rename(session, 1, "a")
    with running(relay(settings)):
        wait_for(lambda: all_sent(session))
    [message] = broker.drain(QUEUE, 1)
    assert message.routing_key == "order.paid"
    assert f'"id":"{message.message_id}"'.encode() in message.body


def test_connections_cut_again_and_again_lose_and_reorder_nothing(session, broker, relay, cut_off):
    settings, proxy = cut_off("amqp")
    expected = [str(n) for n in range(60)]
    with running(relay(settings)):
        for n, name in enumerate(expected):
            for thing in (1, 2, 3):
                rename(session, thing, name)
            if n % 10 == 5:
                proxy.cut(refuse=False)
        wait_for(lambda: all_sent(session), 30)
    arrived = broker.drain(QUEUE, 180)
    assert names(arrived) == {f"thing-{thing}": expected for thing in (1, 2, 3)}


def test_events_recorded_while_the_broker_is_away_arrive_when_it_is_back(session, broker, relay, cut_off):
    settings, proxy = cut_off("amqp")
    proxy.cut(refuse=True)
    with running(relay(settings)):
        rename(session, 1, "a", "b", "c")
        threading.Event().wait(1)
        assert not all_sent(session)
        assert session.scalars(select(Unsent.attempts)).all() == [0, 0, 0]
        session.rollback()
        proxy.open()
        wait_for(lambda: all_sent(session))
    assert names(broker.drain(QUEUE, 3)) == {"thing-1": ["a", "b", "c"]}


def test_a_broker_stopped_and_started_keeps_what_it_confirmed_and_gets_the_rest(
    session, settings, broker, relay
):
    with running(relay(settings)):
        rename(session, 1, "before")
        wait_for(lambda: all_sent(session))
        broker.server.child.stop()
        try:
            rename(session, 1, "meanwhile")
            threading.Event().wait(1)
        finally:
            broker.server.child.start()
        broker.server.child.wait_until(broker.server.broker.is_ready, 90)
        rename(session, 1, "after")
        wait_for(lambda: all_sent(session), 60)
    assert names(broker.drain(QUEUE, 3)) == {"thing-1": ["before", "meanwhile", "after"]}


def test_a_broker_in_alarm_for_longer_than_the_timeout_gets_all_in_the_end(session, settings, broker, relay):
    with running(relay(settings)):
        broker.control("set_vm_memory_high_watermark", "0")
        try:
            for n in range(10):
                rename(session, n, "a", "b")
            threading.Event().wait(8)
            assert not all_sent(session)
        finally:
            broker.control("set_vm_memory_high_watermark", "absolute", "512MB")
        wait_for(lambda: all_sent(session), 30)
    assert names(broker.drain(QUEUE, 20)) == {f"thing-{n}": ["a", "b"] for n in range(10)}


def test_a_paused_broker_is_left_and_found_again(session, broker, relay, cut_off, monkeypatch):
    monkeypatch.setattr(outbox, "CONFIRM_SECONDS", 1.0)
    settings, proxy = cut_off("amqp")
    with running(relay(settings)):
        rename(session, 1, "a")
        wait_for(lambda: all_sent(session))
        proxy.pause()
        rename(session, 1, "b", "c")
        threading.Event().wait(4)
        assert not all_sent(session)
        proxy.resume()
        wait_for(lambda: all_sent(session))
    assert names(broker.drain(QUEUE, 3)) == {"thing-1": ["a", "b", "c"]}


def test_an_event_that_no_queue_takes_waits_with_its_reason_until_one_does(session, settings, broker, relay):
    with running(relay(settings)):
        rename(session, 1, "a", event_type="nobody.cares")
        rename(session, 1, "b")
        rename(session, 2, "x")
        wait_for(lambda: len(broker.drain("order.events", 1, 1)) == 1)
        session.rollback()
        reasons = session.scalars(select(Unsent.last_error).order_by(Unsent.sequence)).all()
        session.rollback()
        assert reasons == ["returned: 312 NO_ROUTE", None]
        binding = f"bindings/%2F/e/ecommerce.events/q/{QUEUE}"
        broker.manage("POST", binding, {"routing_key": "nobody.#"})
        try:
            wait_for(lambda: all_sent(session))
        finally:
            broker.manage("DELETE", f"{binding}/nobody.%23")
    assert names(broker.drain(QUEUE, 3)) == {"thing-2": ["x"], "thing-1": ["a", "b"]}


def test_a_database_away_interrupts_the_relay_and_loses_nothing(session, settings, broker, app, cut_off):
    cut_settings, proxy = cut_off("db")
    apart = make_app(cut_settings)
    with apart.app_context():
        engine = db.engine
    with running(Relay(engine, lambda: Publisher(settings, "relay"), "product-service").run):
        rename(session, 1, "a")
        wait_for(lambda: all_sent(session))
        proxy.cut(refuse=True)
        rename(session, 1, "b")
        threading.Event().wait(1)
        proxy.open()
        rename(session, 1, "c")
        wait_for(lambda: all_sent(session))
    engine.dispose()
    assert names(broker.drain(QUEUE, 3)) == {"thing-1": ["a", "b", "c"]}


def test_the_lock_of_a_relay_that_vanished_without_a_word_is_freed(
    session, settings, broker, cut_off, monkeypatch
):
    monkeypatch.setattr(outbox, "_SESSION", outbox._SESSION.replace("'15s'", "'1s'"))
    cut_settings, proxy = cut_off("db")
    apart = make_app(cut_settings)
    with apart.app_context():
        engine = db.engine
    held = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = :lock AND granted")
    with running(Relay(engine, lambda: Publisher(settings, "relay"), "product-service").run):
        wait_for(lambda: session.scalar(held, {"lock": outbox.LOCK}) == 1)
        proxy.pause()
        # The relay itself gives up after 3 s; till then only the server can know.
        wait_for(lambda: session.scalar(held, {"lock": outbox.LOCK}) == 0, 2.5)
        proxy.resume()
    engine.dispose()
