"""The inbox: an effect once, failures counted, the surroundings told from the message."""

import threading
import uuid
from datetime import UTC, datetime, timedelta

import psycopg2
import pytest
import sqlalchemy.exc
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from chassis import inbox
from chassis.broker import BrokerAway
from chassis.errors import DependencyAway, DomainError
from chassis.events import Envelope
from chassis.inbox import (
    InboxEntry,
    InboxFailure,
    failure_reasons,
    is_surroundings,
    note_failure,
    purge_inbox,
    receive,
)
from tests.chassis.messaging.conftest import wait_for, waits_for_lock
from tests.chassis.messaging.sample import Thing, db, effects, make_effect


def envelope(**data) -> Envelope:
    return Envelope(
        specversion="1.0",
        id=uuid.uuid4(),
        source="order-service",
        type="order.paid",
        subject="1",
        time=datetime.now(UTC),
        data=data,
        sequence=1,
    )


def test_an_event_delivered_twice_has_one_effect(session):
    event = envelope()
    assert receive(session, "q", event, make_effect)
    assert not receive(session, "q", event, make_effect)
    assert effects(session) == [(str(event.id), 1)]


def test_each_consumer_makes_its_own_effect(session):
    event = envelope()
    assert receive(session, "q1", event, make_effect)
    assert receive(session, "q2", event, make_effect)
    assert len(effects(session)) == 2


def test_a_failed_effect_leaves_nothing_and_may_be_made_again(session):
    event = envelope(fail="poison")
    with pytest.raises(ValueError):
        receive(session, "q", event, make_effect)
    assert effects(session) == []
    assert receive(session, "q", event, lambda here, _: here.add(Thing(id=1)))


def test_two_deliveries_at_the_same_moment_have_one_effect(app, session):
    event = envelope()
    begun, may_end = threading.Event(), threading.Event()
    results = {}

    def slowly(here: Session, event: Envelope) -> None:
        make_effect(here, event)
        begun.set()
        may_end.wait(5)

    def deliver(handler) -> None:
        with app.app_context(), Session(db.engine) as own:
            results[handler] = receive(own, "q", event, handler)

    first = threading.Thread(target=deliver, args=(slowly,))
    first.start()
    begun.wait(5)
    second = threading.Thread(target=deliver, args=(make_effect,))
    second.start()
    wait_for(waits_for_lock)
    may_end.set()
    first.join()
    second.join()
    assert results == {slowly: True, make_effect: False}
    assert len(effects(session)) == 1


def test_failures_are_counted_until_the_message_is_dead(session):
    counts = []
    for n in range(5):
        failure = note_failure(session, "q", "m", f"reason {n}", limit=5)
        counts.append((failure.attempts, failure.dead))
    assert counts == [(1, False), (2, False), (3, False), (4, False), (5, True)]
    assert failure_reasons(session, "q") == {"m": "reason 4"}


def test_a_dead_message_that_is_put_back_has_all_its_attempts_again(session):
    note_failure(session, "q", "m", "bad", limit=1)
    failure = note_failure(session, "q", "m", "still bad", limit=5)
    assert (failure.attempts, failure.dead) == (1, False)


def test_old_entries_are_forgotten_in_batches_and_young_ones_kept(session, monkeypatch):
    monkeypatch.setattr(inbox, "PURGE_BATCH", 2)
    for _ in range(5):
        receive(session, "q", envelope(), make_effect)
    [*old, young] = session.scalars(select(InboxEntry.event_id)).all()
    long_ago = datetime.now(UTC) - timedelta(days=31)
    session.execute(update(InboxEntry).where(InboxEntry.event_id.in_(old)).values(received_at=long_ago))
    note_failure(session, "q", "old", "bad", limit=5)
    note_failure(session, "q", "dead", "bad", limit=1)
    session.execute(update(InboxFailure).values(updated_at=long_ago))
    session.commit()
    assert [purge_inbox(session) for _ in range(3)] == [True, True, False]
    assert session.scalars(select(InboxEntry.event_id)).all() == [young]
    assert failure_reasons(session, "q") == {"dead": "bad"}


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT pg_terminate_backend(pg_backend_pid())",
        "SET statement_timeout = 1; SELECT pg_sleep(1)",
        "SELECT 1 FROM not_migrated_yet",
        "SET default_transaction_read_only = on; COMMIT; DELETE FROM things",
    ],
)
def test_what_the_database_does_to_any_message_is_of_the_surroundings(session, statement):
    with pytest.raises(sqlalchemy.exc.DBAPIError) as caught:
        session.connection().exec_driver_sql(statement)
    assert is_surroundings(caught.value)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1 / 0",
        "INSERT INTO things (id, name) VALUES (1, 'a'), (1, 'b')",
        "INSERT INTO things (id) VALUES (1)",
        "SELECT '\\u0000'::jsonb",
        "SELECT nonsense nonsense nonsense",
        "INSERT INTO inbox_failures SELECT string_agg(md5(n::text), ''), 'm', 1, false, '', now() "
        "FROM generate_series(1, 1000) AS n",
    ],
)
def test_what_the_database_says_of_this_message_is_the_messages(session, statement):
    with pytest.raises(sqlalchemy.exc.DBAPIError) as caught:
        session.connection().exec_driver_sql(statement)
    assert not is_surroundings(caught.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (DependencyAway("peer"), True),
        (BrokerAway("gone"), True),
        (ConnectionRefusedError(), True),
        (TimeoutError(), True),
        (sqlalchemy.exc.TimeoutError("pool"), True),
        (psycopg2.OperationalError("gone"), True),
        (ValueError(), False),
        (KeyError("field"), False),
        (DomainError("no"), False),
    ],
)
def test_other_errors_are_told_apart(error, expected):
    assert is_surroundings(error) is expected
