"""The sweep: a task for everything that is due, once, and again for what was left lying."""

import threading
import time
from types import SimpleNamespace

import psycopg2
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from chassis.errors import DependencyAway
from chassis.worker import STALE_SECONDS
from notification_service.channels.email import MAIL_SECONDS
from notification_service.config import Settings
from notification_service.models import db
from notification_service.services import Sweep, dispatching


class Tasks:
    """A task queue that keeps what it is sent, or is away; nobody takes a task until a test says so."""

    def __init__(self):
        self.sent = []
        self.room = None
        self.taken = 0
        self.counts = 0
        self.is_away = False

    def count(self):
        self.counts += 1
        if self.is_away:
            raise DependencyAway("rabbitmq")
        return len(self.sent) - self.taken

    def take_all(self):
        """Have every waiting task taken up, or lost."""
        self.taken = len(self.sent)

    def send(self, notification_id, request_id, traceparent):
        if self.room is not None and len(self.sent) >= self.room:
            raise DependencyAway("rabbitmq")
        self.sent.append(notification_id)


def test_a_claim_counts_for_longer_than_a_mail_may_take():
    assert Settings.model_fields["claim_seconds"].default >= MAIL_SECONDS + 15


@pytest.fixture
def tasks():
    return Tasks()


@pytest.fixture
def sweep(tasks, session):
    sweep = Sweep(tasks, dispatch_seconds=60, claim_seconds=60)
    return lambda: sweep(session)


@pytest.fixture
def queue(client, admin, session):
    """Return what queues so many mails, the newest last."""

    def queue(count=1):
        session.execute(
            text(
                "INSERT INTO notifications (id, channel, recipient, template, locale, subject, data, status) "
                "SELECT gen_random_uuid(), 'email', 'a@example.com', 'direct', '', 's', '{}', 'queued' "
                "FROM generate_series(1, :count)"
            ),
            {"count": count},
        )
        session.commit()

    return queue


def update(session, assignment):
    session.execute(text(f"UPDATE notifications SET {assignment}"))
    session.commit()


def test_a_due_one_gets_a_task_once(sweep, tasks, queue, box):
    queue()
    sweep()
    sweep()
    assert tasks.sent == [box.rows()[0].id]


def test_one_whose_time_has_not_come_gets_none(sweep, tasks, queue, session):
    queue()
    update(session, "next_attempt_at = now() + interval '1 minute'")
    sweep()
    assert tasks.sent == []


def test_a_task_that_was_lost_is_sent_again_after_a_minute(sweep, tasks, queue, box):
    queue()
    sweep()
    tasks.take_all()
    sweep()
    assert len(tasks.sent) == 1
    box.age(61)
    sweep()
    assert len(tasks.sent) == 2


def test_a_task_that_still_waits_is_not_sent_again_however_long_it_does(sweep, tasks, queue, box):
    queue(3)
    for _ in range(5):
        sweep()
        box.age(61)
    assert len(tasks.sent) == 3


def test_the_window_holds_however_long_nobody_takes_a_task(sweep, tasks, queue, box):
    queue(dispatching.WINDOW + 50)
    while sweep():
        pass
    for _ in range(3):
        box.age(61)
        sweep()
    assert len(tasks.sent) == dispatching.WINDOW


def test_what_is_new_goes_on_while_others_wait(sweep, tasks, queue):
    queue(3)
    sweep()
    queue()
    sweep()
    assert len(set(tasks.sent)) == 4


def test_a_lost_task_does_not_wait_behind_ever_new_ones(sweep, tasks, queue, box):
    """New ones are held back for as long as the tasks of before are being taken up."""
    queue(2)
    sweep()
    lost = set(tasks.sent)
    tasks.take_all()
    queue(5)
    box.age(30)
    sweep()
    box.age(31)
    queue()
    sweep()
    assert len(tasks.sent) == 7
    tasks.take_all()
    sweep()
    assert len(tasks.sent) == 10
    assert lost < set(tasks.sent[7:])


def test_an_old_claim_gets_one_task_for_as_long_as_that_waits(sweep, tasks, queue, session, box):
    queue()
    update(session, "status = 'sending', claimed_at = now() - interval '2 minutes'")
    for _ in range(3):
        sweep()
        box.age(61)
    assert len(tasks.sent) == 1
    tasks.take_all()
    sweep()
    assert len(tasks.sent) == 2


def test_a_broker_is_not_asked_when_nothing_is_due(sweep, tasks, queue, session):
    queue()
    update(session, "next_attempt_at = now() + interval '1 minute'")
    sweep()
    assert tasks.counts == 0


def test_an_old_claim_gets_a_new_task_once(sweep, tasks, queue, session, box):
    queue()
    update(session, "status = 'sending', claimed_at = now(), dispatched_at = now()")
    sweep()
    assert tasks.sent == []
    box.age(61)
    sweep()
    sweep()
    assert len(tasks.sent) == 1


@pytest.mark.parametrize("status", ["sent", "failed", "suppressed"])
def test_what_has_ended_gets_none(sweep, tasks, queue, session, status):
    queue()
    update(session, f"status = '{status}'")
    sweep()
    assert tasks.sent == []


def test_a_broker_that_is_away_leaves_the_rest_to_the_next_sweep(sweep, tasks, queue):
    queue(5)
    tasks.room = 2
    sweep()
    assert len(tasks.sent) == 2
    tasks.room = None
    sweep()
    assert len(tasks.sent) == len(set(tasks.sent)) == 5


def test_a_broker_that_does_not_count_is_asked_at_the_next_sweep(sweep, tasks, queue):
    queue()
    tasks.is_away = True
    assert sweep() is False
    tasks.is_away = False
    sweep()
    assert len(tasks.sent) == 1


def test_only_what_was_not_sent_is_given_back(sweep, tasks, queue, box):
    queue(2)
    tasks.room = 1
    sweep()
    dispatched = [row.dispatched_at is not None for row in box.rows()]
    assert sorted(dispatched) == [False, True]


def test_a_full_batch_asks_for_another_sweep_at_once(sweep, queue):
    queue(dispatching.BATCH + 1)
    assert sweep() is True
    assert sweep() is False


def test_no_more_tasks_wait_than_the_window_holds(sweep, tasks, queue):
    queue(dispatching.WINDOW + 50)
    while sweep():
        pass
    sweep()
    assert len(tasks.sent) == dispatching.WINDOW


def test_a_slow_broker_is_left_in_time_to_give_a_sign_of_life(tasks, queue, session, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(dispatching, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def send_slowly(*task):
        now[0] += 1.0
        tasks.send(*task)

    slow = SimpleNamespace(send=send_slowly, count=tasks.count)
    sweep = Sweep(slow, dispatch_seconds=60, claim_seconds=60)
    queue(dispatching.BATCH - 1)
    assert sweep(session) is True
    assert now[0] < STALE_SECONDS / 3
    while sweep(session):
        pass
    assert len(tasks.sent) == len(set(tasks.sent)) == dispatching.BATCH - 1


def test_the_oldest_go_first(sweep, tasks, queue, session, box):
    queue(3)
    update(session, "next_attempt_at = now() - random() * interval '1 hour'")
    sweep()
    by_age = sorted(box.rows(), key=lambda row: row.next_attempt_at)
    assert tasks.sent == [row.id for row in by_age]


def test_two_sweeps_at_once_send_no_task_twice(app, tasks, queue):
    queue(90)
    barrier = threading.Barrier(2)

    def work():
        with app.app_context():
            barrier.wait()
            Sweep(tasks, dispatch_seconds=60, claim_seconds=60)(db.session)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tasks.sent) == len(set(tasks.sent)) == 90


def test_old_claims_wait_for_their_holders_after_a_time_without_database(tasks, queue, session, monkeypatch):
    sweep = Sweep(tasks, dispatch_seconds=60, claim_seconds=60)
    sweep(session)
    queue()
    update(session, "status = 'sending', claimed_at = now() - interval '2 minutes'")
    clock = time.monotonic() + dispatching.GAP_SECONDS + 1
    monkeypatch.setattr(dispatching.time, "monotonic", lambda: clock)
    sweep(session)
    assert tasks.sent == []
    for _ in range(3):
        clock += 4
        sweep(session)
    assert len(tasks.sent) == 1


class SlowBroker:
    """Takes its time for each task, and may be away at its end."""

    def __init__(self, monkeypatch, tasks):
        self.now, self.seconds, self._tasks = 0.0, 10.0, tasks
        monkeypatch.setattr(dispatching, "time", SimpleNamespace(monotonic=lambda: self.now))

    def send(self, *task):
        self.now += self.seconds
        self._tasks.send(*task)

    def count(self):
        self.now += self.seconds
        return self._tasks.count()


@pytest.mark.parametrize("room", [None, 0])
def test_a_slow_broker_keeps_no_old_claim_from_being_taken_over(tasks, queue, session, monkeypatch, room):
    broker = SlowBroker(monkeypatch, tasks)
    sweep = Sweep(broker, dispatch_seconds=60, claim_seconds=60)
    queue()
    tasks.room = room
    sweep(session)
    tasks.sent.clear()
    tasks.room = None
    update(session, "status = 'sending', claimed_at = now() - interval '2 minutes', dispatched_at = NULL")
    sweep(session)
    assert len(tasks.sent) == 1


def test_old_claims_wait_when_the_database_went_while_a_broker_was_slow(tasks, queue, session, monkeypatch):
    broker = SlowBroker(monkeypatch, tasks)
    sweep = Sweep(broker, dispatch_seconds=60, claim_seconds=60)
    queue()
    tasks.room = 0

    def away(*_):
        raise OperationalError("UPDATE", {}, psycopg2.OperationalError("gone"))

    with monkeypatch.context() as patch:
        patch.setattr(sweep, "_give_back", away)
        with pytest.raises(OperationalError):
            sweep(session)
    tasks.room = None
    update(session, "status = 'sending', claimed_at = now() - interval '2 minutes', dispatched_at = NULL")
    sweep(session)
    assert tasks.sent == []
