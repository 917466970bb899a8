"""The relay against a publisher of the test's own: what is confirmed goes, all else stays, in order."""

import re
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack

import orjson
import pytest
import sqlalchemy.exc
from sqlalchemy import event as hooks
from sqlalchemy import select, text, update

from chassis import outbox
from chassis.broker import BrokerAway, BrokerRefused, Confirm
from chassis.db import transaction
from chassis.events import Event, NewEvent, Unsent, record
from chassis.outbox import Relay, load, outbox_stats
from tests.chassis.messaging.conftest import running, wait_for
from tests.chassis.messaging.sample import db, rename


class FakePublisher:
    """A broker that keeps what it is sent and answers as the test wants."""

    def __init__(self, answer: Callable[[dict], str | None] = lambda document: None) -> None:
        self.answer = answer
        self.sent: list[dict] = []
        self.accepted: list[dict] = []
        self.silent = False
        self.closed = False
        self._tag = 0
        self._unanswered: list[tuple[int, dict]] = []

    def publish(self, *, routing_key: str, message_id: str, body: bytes) -> int:
        document = orjson.loads(body)
        assert (routing_key, message_id) == (document["type"], document["id"])
        assert document["subject"] not in {other["subject"] for _, other in self._unanswered}
        self.sent.append(document)
        self._tag += 1
        self._unanswered.append((self._tag, document))
        return self._tag

    def pump(self, seconds: float) -> list[Confirm]:
        if self.silent or not self._unanswered:
            threading.Event().wait(min(seconds, 0.05))
            return []
        # Newest first: no order among the answers is promised.
        answers = [Confirm(tag, self.answer(document)) for tag, document in reversed(self._unanswered)]
        failed = {answer.tag for answer in answers if answer.error}
        self.accepted += [document for tag, document in self._unanswered if tag not in failed]
        self._unanswered.clear()
        return answers

    def close(self) -> None:
        self.closed = True
        self._unanswered.clear()

    def names(self, subject: str) -> list[str]:
        return [document["data"]["name"] for document in self.accepted if document["subject"] == subject]


@pytest.fixture
def engine(app):
    with app.app_context():
        return db.engine


@pytest.fixture
def relay_to(engine):
    """Return a function that makes a relay."""

    def make(publisher: FakePublisher) -> Relay:
        return Relay(engine, lambda: publisher, "product-service")

    return make


def run_until_it_fails(relay: Relay) -> None:
    """Run the relay and raise what it raises; it has 10 s to do so."""
    failures = []

    def run() -> None:
        try:
            relay.run(threading.Event())
        except Exception as error:  # noqa: BLE001, raised again in the test's own thread
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(10)
    assert failures, "the relay went on"
    raise failures[0]


def unsent(session) -> int:
    session.rollback()
    return len(session.scalars(select(Unsent.sequence)).all())


def relay_until_sent(session, relay: Relay, seconds: float = 20) -> None:
    with running(relay.run):
        wait_for(lambda: unsent(session) == 0, seconds)


def test_a_confirmed_event_leaves_the_outbox_and_stays_recorded(session, relay_to):
    rename(session, 1, "a", "b")
    publisher = FakePublisher()
    relay_until_sent(session, relay_to(publisher))
    assert publisher.names("thing-1") == ["a", "b"]
    assert len(session.scalars(select(Event)).all()) == 2


def test_what_was_sent_but_not_deleted_is_sent_again(session, engine, relay_to):
    rename(session, 1, "a")
    rename(session, 2, "b")

    def crash(_connection, _cursor, statement, *_):
        if statement.startswith("DELETE FROM outbox"):
            raise sqlalchemy.exc.OperationalError(statement, {}, Exception("the process dies here"))

    publisher = FakePublisher()
    hooks.listen(engine, "before_cursor_execute", crash)
    with pytest.raises(sqlalchemy.exc.OperationalError):
        run_until_it_fails(relay_to(publisher))
    hooks.remove(engine, "before_cursor_execute", crash)
    assert publisher.closed
    assert unsent(session) == 2
    relay_until_sent(session, relay_to(publisher))
    assert set(publisher.names("thing-1")) == {"a"}
    assert set(publisher.names("thing-2")) == {"b"}


def test_a_refused_event_waits_with_its_reason_and_holds_its_subject_alone(session, relay_to):
    rename(session, 1, "a", "b", "c")
    rename(session, 2, "x", "y", "z")
    refusing = threading.Event()
    refusing.set()
    publisher = FakePublisher(lambda d: "no" if refusing.is_set() and d["data"]["name"] == "b" else None)
    with running(relay_to(publisher).run):
        wait_for(lambda: unsent(session) == 2)
        wait_for(lambda: sum(d["data"]["name"] == "b" for d in publisher.sent) >= 2)
        assert publisher.names("thing-2") == ["x", "y", "z"]
        assert publisher.names("thing-1") == ["a"]
        session.rollback()
        held = session.scalars(select(Unsent).order_by(Unsent.sequence)).all()
        assert [row.last_error for row in held] == ["no", None]
        assert held[0].attempts >= 1
        rename(session, 1, "d")
        refusing.clear()
        wait_for(lambda: unsent(session) == 0)
    assert publisher.names("thing-1") == ["a", "b", "c", "d"]


def test_a_refused_event_is_tried_for_ever_but_at_most_5_s_apart(session, relay_to):
    rename(session, 1, "a")
    session.execute(update(Unsent).values(attempts=1000))
    session.commit()
    with running(relay_to(FakePublisher(lambda _: "no")).run):
        wait_for(lambda: session.rollback() or session.scalar(select(Unsent.attempts)) == 1001)
    wait = "SELECT extract(epoch FROM next_attempt_at - now()) FROM outbox"
    assert 3 < session.scalar(text(wait)) <= 5


def test_a_subject_has_one_event_under_way_at_a_time(session, relay_to):
    rename(session, 1, *"abcdefgh")
    publisher = FakePublisher()  # Its `publish` asserts it.
    relay_until_sent(session, relay_to(publisher))
    assert publisher.names("thing-1") == list("abcdefgh")


def test_a_silent_broker_costs_no_event_and_no_attempt(session, relay_to, monkeypatch):
    monkeypatch.setattr(outbox, "CONFIRM_SECONDS", 0.2)
    rename(session, 1, "a")
    publisher = FakePublisher()
    publisher.silent = True
    with pytest.raises(BrokerAway):
        run_until_it_fails(relay_to(publisher))
    session.rollback()
    assert session.scalars(select(Unsent.attempts)).all() == [0]


class Slow(FakePublisher):
    """A broker that confirms one event after the other, the oldest first."""

    seconds = 0.01

    def pump(self, seconds: float) -> list[Confirm]:
        if not self._unanswered:
            return super().pump(seconds)
        threading.Event().wait(self.seconds)
        tag, document = self._unanswered.pop(0)
        answer = self.answer(document)
        if answer is None:
            self.accepted.append(document)
        return [Confirm(tag, answer)]


def test_confirms_that_take_longer_than_the_session_may_be_idle_empty_the_outbox(
    session, relay_to, monkeypatch
):
    """The server ends an idle session: what was confirmed must not wait for the end of the batch."""
    monkeypatch.setattr(outbox, "_SESSION", outbox._SESSION.replace("'15s'", "'4s'"))
    with transaction(session) as here:
        record(here, *(NewEvent("order.paid", str(n), {}) for n in range(outbox.BATCH)))
    publisher = Slow()
    publisher.seconds = 0.014
    relay_until_sent(session, relay_to(publisher))
    assert Counter(document["subject"] for document in publisher.sent).most_common(1)[0][1] == 1


def test_what_is_refused_early_in_a_slow_batch_is_counted_once(session, relay_to, monkeypatch):
    monkeypatch.setattr(outbox, "SETTLE_SECONDS", 0.05)
    for n in range(40):
        rename(session, n, "a", "b")
    publisher = Slow(lambda document: "no" if document["subject"] == "thing-1" else None)
    publisher.seconds = 0.03
    with running(relay_to(publisher).run):
        wait_for(lambda: unsent(session) < 60)
        assert publisher.sent[-1]["subject"] != "thing-1", "the batch is over"
        wait_for(lambda: unsent(session) == 2)
    session.rollback()
    attempts = session.scalars(select(Unsent.attempts).order_by(Unsent.sequence)).all()
    assert attempts == [sum(document["subject"] == "thing-1" for document in publisher.sent), 0]
    assert all(publisher.names(f"thing-{n}") == ["a", "b"] for n in range(40) if n != 1)


def test_a_closed_channel_leaves_its_reason_with_what_was_under_way(session, relay_to):
    class Refusing(FakePublisher):
        def pump(self, seconds: float) -> list[Confirm]:
            raise BrokerRefused("404 no exchange")

    rename(session, 1, "a", "b")
    with pytest.raises(BrokerRefused):
        run_until_it_fails(relay_to(Refusing()))
    session.rollback()
    assert session.scalars(select(Unsent.last_error).order_by(Unsent.sequence)).all() == [
        "404 no exchange",
        None,
    ]


def test_a_new_connection_is_tried_with_one_event(session, relay_to, monkeypatch):
    monkeypatch.setattr(outbox, "CONFIRM_SECONDS", 0.2)
    for n in range(1, 5):
        rename(session, n, "a")
    publisher = FakePublisher()
    publisher.silent = True
    with pytest.raises(BrokerAway):
        run_until_it_fails(relay_to(publisher))
    assert len(publisher.sent) == 1


def test_a_busy_subject_leaves_room_for_others(session, engine):
    rename(session, 1, *(str(n) for n in range(outbox.BATCH)))
    rename(session, 2, "x")
    with engine.connect() as connection:
        rows = load(connection)
    assert Counter(row.subject for row in rows) == {"thing-1": outbox.PER_SUBJECT, "thing-2": 1}
    assert [row.data["name"] for row in rows[:3]] == ["0", "1", "2"]


def test_one_of_two_relays_works_and_the_other_takes_over(session, engine, relay_to):
    first, second = FakePublisher(), FakePublisher()
    took_over = threading.Event()

    def connect_second() -> FakePublisher:
        took_over.set()
        return second

    with ExitStack() as first_runs, ExitStack() as second_runs:
        first_runs.enter_context(running(relay_to(first).run))
        rename(session, 1, "a")
        wait_for(lambda: unsent(session) == 0)
        second_runs.enter_context(running(Relay(engine, connect_second, "product-service").run))
        rename(session, 1, "b")
        wait_for(lambda: unsent(session) == 0)
        assert not took_over.wait(1.5)
        first_runs.close()
        rename(session, 1, "c")
        wait_for(lambda: unsent(session) == 0)
    assert (first.names("thing-1"), second.names("thing-1")) == (["a", "b"], ["c"])


def test_a_relay_whose_server_lost_it_stops_working(session, relay_to):
    publisher = FakePublisher()
    failed = threading.Event()

    def work(stop: threading.Event) -> None:
        try:
            relay_to(publisher).run(stop)
        except sqlalchemy.exc.OperationalError:
            failed.set()
            stop.wait(5)

    with running(work):
        rename(session, 1, "a")
        wait_for(lambda: unsent(session) == 0)
        session.execute(text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"))
        assert failed.wait(5)
        assert publisher.closed


def test_the_relay_finishes_its_batch_when_it_is_stopped(session, relay_to):
    for n in range(20):
        rename(session, n, "a")
    stop = threading.Event()
    publisher = FakePublisher(lambda _: stop.set())
    relay_to(publisher).run(stop)
    assert 20 - len(publisher.accepted) == unsent(session)
    assert publisher.accepted


def test_stats_tell_what_is_unsent_how_long_and_what_is_stuck(session):
    assert vars(outbox_stats(session)) == {"unsent": 0, "lag_seconds": 0, "stuck": 0}
    rename(session, 1, "a", "b", "c")
    session.execute(text("UPDATE outbox SET created_at = now() - interval '90 seconds'"))
    session.execute(text("UPDATE outbox SET last_error = 'no' WHERE sequence = 1"))
    session.commit()
    stats = outbox_stats(session)
    assert (stats.unsent, stats.stuck) == (3, 1)
    assert 89 < stats.lag_seconds < 100


def test_the_command_lists_stuck_events_with_their_reason(session, app):
    rename(session, 1, "a", "b")
    session.execute(text("UPDATE outbox SET created_at = now() - interval '90 seconds', attempts = 17"))
    session.execute(text("UPDATE outbox SET last_error = 'returned: 312 NO_ROUTE' WHERE sequence = 1"))
    session.commit()
    lines = app.test_cli_runner().invoke(args=["outbox"]).output.splitlines()
    assert lines[0].startswith("unsent 2  lag 9")
    assert len(lines) == 2
    assert "order.paid  thing-1" in lines[1]
    assert lines[1].endswith("attempts 17  returned: 312 NO_ROUTE")


def test_the_command_says_that_the_database_is_away(stranded):
    done = stranded.test_cli_runner().invoke(args=["outbox"])
    assert (done.exit_code, done.output) == (1, "the database is away\n")


HISTORY = """
    INSERT INTO events (id, type, subject, data)
    SELECT gen_random_uuid(), 'order.paid', n::text, '{}' FROM generate_series(1, 10000) AS n
"""


def test_loading_reads_what_is_unsent_and_no_history(session, engine):
    # All at once may take a busy machine longer than a statement may.
    for _ in range(10):
        with transaction(session) as here:
            here.execute(text(HISTORY))
    with transaction(session) as here:
        record(here, *(NewEvent("order.paid", str(n), {}) for n in range(1000)))
    numbers = {":window": "2000", ":per_subject": "100", ":batch": "500", ":retries": "50"}
    statement = str(outbox._LOAD)
    for name, number in numbers.items():
        statement = statement.replace(name, number)
    with engine.connect() as connection:
        connection.detach()
        connection.exec_driver_sql(outbox._SESSION)
        plan = "\n".join(connection.exec_driver_sql("EXPLAIN (ANALYZE, BUFFERS) " + statement).scalars())
        connection.close()
    assert "Seq Scan" not in plan
    pages = int(re.search(r"shared hit=(\d+)", plan)[1])
    assert pages < 5000, plan
