"""The worker: its threads, its own process, its signs of life."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import select, text

from chassis import context, worker
from chassis.db import transaction
from chassis.errors import DependencyAway
from chassis.heartbeats import Heartbeats, worker_trouble, write_heartbeat
from chassis.status import StatusReport, WorkerStatus
from chassis.worker import Job, WorkerPlan, is_migrated
from tests.chassis.messaging.conftest import names, wait_for
from tests.chassis.messaging.sample import QUEUE, effects, make_tables, rename

ROOT = Path(__file__).parents[3]
MODULE = "tests.chassis.messaging.sample"


@pytest.fixture
def start(settings, tmp_path) -> Iterator[Callable[..., subprocess.Popen]]:
    """Return a function that starts a worker's process; it is killed at the end of the test."""
    processes = []

    def start(**extra: str) -> subprocess.Popen:
        fields = settings.model_dump(exclude={"log_dir"})
        environment = {
            name.upper(): value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            for name, value in fields.items()
        }
        environment |= {
            "PYTHONPATH": f"{ROOT}:{ROOT}/chassis",
            "TMPDIR": str(tmp_path),
            "PATH": os.environ["PATH"],
        }
        command = [sys.executable, "-m", "flask", "--app", MODULE, "worker"]
        output = (tmp_path / "log").open("ab")
        processes.append(
            subprocess.Popen(command, cwd=tmp_path, env=environment | extra, stdout=output, stderr=output)
        )
        output.close()
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


def unsent(session) -> int:
    session.rollback()
    number = session.scalar(text("SELECT count(*) FROM outbox"))
    session.rollback()
    return number


def log_of(tmp_path: Path) -> str:
    return (tmp_path / "log").read_text()


def stop(process: subprocess.Popen) -> tuple[int, float]:
    """Send SIGTERM and return the exit status and the seconds until then."""
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    return process.wait(30), time.monotonic() - started


def test_a_worker_relays_consumes_and_ends_cleanly(session, broker, start, tmp_path):
    process = start()
    rename(session, 1, "a", "b", "c")
    wait_for(lambda: len(effects(session)) == 3, 40)
    status, seconds = stop(process)
    assert status == 0, log_of(tmp_path)
    assert seconds < 10
    assert "worker stopped" in log_of(tmp_path)
    assert broker.count(QUEUE) == 0


def test_the_request_that_caused_an_event_is_found_in_the_workers_log(session, broker, start, tmp_path):
    process = start()
    with context.bind_context(request_id="request-7", traceparent=None):
        rename(session, 1, "a")
    wait_for(lambda: len(effects(session)) == 1, 40)
    assert stop(process)[0] == 0
    lines = [json.loads(line) for line in log_of(tmp_path).splitlines()]
    caused = {line["event"] for line in lines if line.get("request_id") == "request-7"}
    assert caused == {"event relayed", "event handled"}


def test_sigterm_lets_the_present_message_finish(session, broker, start, tmp_path):
    process = start()
    rename(session, 1, "a", fail="slow")
    rename(session, 1, "b", fail="slow")
    locked = (
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND query LIKE '%effects%'"
    )

    def handling() -> bool:
        session.rollback()
        return bool(session.scalar(text(locked)))

    wait_for(handling, 40)
    session.rollback()
    status, seconds = stop(process)
    assert status == 0, log_of(tmp_path)
    assert seconds < 20
    made = len(effects(session))
    assert made >= 1
    # What was answered is exactly what had its effect.
    assert broker.count(QUEUE) == 2 - made


def test_sigterm_waits_for_the_confirms_of_the_present_batch(session, broker, cut_off, start, tmp_path):
    settings, proxy = cut_off("amqp")
    process = start(AMQP_HOST=settings.amqp_host, AMQP_PORT=str(settings.amqp_port))
    rename(session, 0, "a")
    wait_for(lambda: len(effects(session)) == 1, 40)
    proxy.pause()
    with transaction(session):
        for thing in range(1, 21):
            rename(session, thing, "a")
    # The relay looks every 0.1 s; the batch is under way once it stands in the proxy.
    wait_for(lambda: proxy.holds > 0)
    process.send_signal(signal.SIGTERM)
    time.sleep(1)
    assert process.poll() is None, "it did not wait"
    proxy.resume()
    assert process.wait(20) == 0, log_of(tmp_path)
    assert unsent(session) == 0
    assert len(broker.drain("order.events", 21)) == 21


def test_a_worker_killed_again_and_again_loses_no_event_and_doubles_no_effect(session, broker, start):
    expected = [str(n) for n in range(40)]
    process = start()
    for n, name in enumerate(expected):
        rename(session, 1, name)
        rename(session, 2, name)
        if n % 15 == 10:
            wait_for(lambda least=n // 2: len(effects(session)) > least, 60)
            process.kill()
            process.wait()
            process = start()
    wait_for(lambda: len(effects(session)) >= 80, 60)
    sequences = [sequence for _, sequence in effects(session)]
    assert sorted(sequences) == sorted(set(sequences))
    assert len(sequences) == 80
    assert names(broker.drain("order.events", 80)) == {"thing-1": expected, "thing-2": expected}


def test_a_thread_that_hangs_ends_the_process(app, start, tmp_path):
    process = start(HANG="1")
    assert process.wait(60) == 1
    [last] = [line for line in log_of(tmp_path).splitlines() if "worker thread hangs" in line]
    assert '"threads":["job hang"]' in last


def test_a_process_that_was_paused_goes_on(session, broker, start, tmp_path):
    process = start()
    rename(session, 1, "a")
    wait_for(lambda: len(effects(session)) == 1, 40)
    process.send_signal(signal.SIGSTOP)
    time.sleep(2.5)
    process.send_signal(signal.SIGCONT)
    rename(session, 1, "b")
    wait_for(lambda: len(effects(session)) == 2, 40)
    assert stop(process)[0] == 0
    assert log_of(tmp_path).count('"worker started"') == 1


def test_a_worker_waits_for_its_database_and_its_tables(session, app, database, broker, start, tmp_path):
    with app.app_context():
        session.execute(text("DROP TABLE worker_status"))
        session.commit()
    process = start()
    wait_for(lambda: "waiting for database and migrations" in log_of(tmp_path), 40)
    assert process.poll() is None
    make_tables(app)
    wait_for(lambda: "worker started" in log_of(tmp_path), 20)
    assert stop(process)[0] == 0


def test_a_worker_that_waits_can_be_stopped(start, tmp_path, broker):
    # No tables: the app of this process was never made.
    process = start()
    wait_for(lambda: "waiting for database and migrations" in log_of(tmp_path), 40)
    assert stop(process)[0] == 0


def test_worker_health_tells_a_living_worker_from_none(app, broker, start, tmp_path):
    def health() -> int:
        command = [sys.executable, "-m", "chassis.heartbeats"]
        environment = {"PYTHONPATH": f"{ROOT}/chassis", "TMPDIR": str(tmp_path), "PATH": os.environ["PATH"]}
        return subprocess.run(command, cwd=tmp_path, env=environment, check=False).returncode

    assert health() == 1
    process = start()
    wait_for(lambda: health() == 0, 40)
    assert stop(process)[0] == 0


def test_a_pause_of_the_whole_process_makes_nobody_late():
    hearts = Heartbeats()
    hearts.beat("a")
    hearts.beat("b")
    for _ in range(5):
        hearts.tick()
        hearts.beat("a")
    assert hearts.silent(5) == []
    assert hearts.silent(4) == ["b"]


def test_nobody_waits_for_what_has_ended():
    hearts = Heartbeats()
    hearts.beat("a")
    hearts.tick()
    hearts.forget("a")
    hearts.forget("a")
    assert hearts.silent(0) == []


def test_a_heartbeat_file_names_who_is_late_and_grows_old(tmp_path):
    path = tmp_path / "heartbeat"
    assert worker_trouble(path) == "no worker has started here"
    write_heartbeat(path, [])
    assert worker_trouble(path) is None
    write_heartbeat(path, ["relay"])
    assert worker_trouble(path) == "late: relay"
    write_heartbeat(path, [])
    os.utime(path, (time.time() - 20, time.time() - 20))
    assert worker_trouble(path).startswith("no heartbeat for")


@contextmanager
def repeating(app, job: Job) -> Iterator[None]:
    """Run one job as the worker does."""
    stop = threading.Event()
    work = worker._works(app, WorkerPlan(jobs=[job], relay=False))[f"job {job.name}"]
    arguments = (f"job {job.name}", work, stop, lambda: None)
    thread = threading.Thread(target=worker._keep_working, args=arguments)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)


def test_a_job_goes_on_after_failures_of_any_kind(app):
    runs = []

    def job(_session) -> None:
        runs.append(1)
        if len(runs) == 1:
            raise DependencyAway("database")
        if len(runs) == 2:
            raise KeyError("a bug")

    with repeating(app, Job("test", 0.01, job)):
        wait_for(lambda: len(runs) > 4)


def pauses_of(app, job: Job, monkeypatch, number: int) -> list[float]:
    """Return how long a job rests after each of so many runs, without resting."""
    pauses: list[float] = []

    def note(stop: threading.Event, seconds: float, beat: Callable[[], None]) -> None:
        pauses.append(seconds)
        if len(pauses) == number:
            stop.set()

    monkeypatch.setattr(worker, "pause", note)
    with repeating(app, job):
        wait_for(lambda: len(pauses) == number)
    return pauses


def test_a_job_that_keeps_failing_is_run_no_more_often_than_a_job_that_works(app, monkeypatch):
    def fail(_session) -> None:
        raise KeyError("a bug")

    slow = pauses_of(app, Job("slow", 60, fail), monkeypatch, 15)
    assert slow[0] < 1
    assert 30 <= min(slow[10:]) <= max(slow[10:]) <= 60
    # One that is due every second is no more patient with its surroundings than any other thread.
    prompt = pauses_of(app, Job("prompt", 1, fail), monkeypatch, 15)
    assert max(prompt) <= worker.RECONNECT_SECONDS


def test_a_job_that_fails_late_in_its_work_has_not_worked(app, monkeypatch):
    runs = []

    def fail_at_the_third_page(_session) -> bool:
        runs.append(1)
        if len(runs) % 3 == 0:
            raise DependencyAway("product service")
        return True

    pauses = pauses_of(app, Job("paged", 60, fail_at_the_third_page), monkeypatch, 45)
    assert min(pauses[-1:]) >= 30
    assert pauses[-3:-1] == [0, 0]


def test_a_job_that_has_worked_again_is_soon_repeated_after_its_next_failure(app, monkeypatch):
    runs = []

    def fail_often(_session) -> None:
        runs.append(1)
        if len(runs) != 12:
            raise DependencyAway("database")

    pauses = pauses_of(app, Job("test", 60, fail_often), monkeypatch, 13)
    assert pauses[10] >= 30
    assert pauses[11] == 60
    assert pauses[12] < 1


def test_a_job_with_more_to_do_is_called_again_at_once(app):
    runs = []

    def job(_session) -> bool:
        runs.append(1)
        return len(runs) < 5

    with repeating(app, Job("test", 3600, job)):
        wait_for(lambda: len(runs) == 5, 3)
        threading.Event().wait(0.2)
    assert len(runs) == 5


def test_every_run_of_a_job_has_a_session_and_a_request_id_of_its_own(app):
    seen = []

    def job(session) -> None:
        with transaction(session) as here:
            seen.append((here, context.request_id.get()))

    with repeating(app, Job("test", 0.01, job)):
        wait_for(lambda: len(seen) >= 2)
    assert seen[0][0] is not seen[1][0]
    assert len({request_id for _, request_id in seen}) == len(seen)


def status(session) -> dict[str, str]:
    session.rollback()
    return dict(session.execute(select(WorkerStatus.name, WorkerStatus.value)).all())


def test_the_status_tells_of_broker_and_dead_letters(session, settings, broker, cut_off):
    for _ in range(2):
        broker.publish(b"x", message_id="1")
    cut_settings, proxy = cut_off("amqp")
    report = StatusReport(cut_settings, [QUEUE])
    report(session)
    assert status(session) == {"heartbeat": "ok", "broker": "ok", f"dead_letters:{QUEUE}": "0"}
    proxy.cut(refuse=True)
    report(session)
    assert status(session)["broker"] == "away"
    proxy.open()
    report(session)
    assert status(session)["broker"] == "ok"
    report.close()


def test_a_queue_that_is_missing_leaves_the_status_alive(session, settings, broker):
    report = StatusReport(settings, ["nowhere"])
    for _ in range(2):
        report(session)
    assert status(session) == {"heartbeat": "ok", "broker": "ok"}
    report.close()


def test_migrations_are_waited_for_and_a_later_release_is_not(app, session, tmp_path, monkeypatch):
    versions = tmp_path / "migrations/versions"
    versions.mkdir(parents=True)
    (versions.parent / "script.py.mako").write_text("")
    (versions / "a.py").write_text("revision = 'a'\ndown_revision = None\n")
    (versions / "b.py").write_text("revision = 'b'\ndown_revision = 'a'\n")
    monkeypatch.setattr(app, "root_path", str(tmp_path / "package"))
    assert not is_migrated(app)
    session.execute(text("CREATE TABLE alembic_version (version_num text)"))
    answers = []
    for version in ("a", "b", "later"):
        session.execute(text("DELETE FROM alembic_version"))
        session.execute(text("INSERT INTO alembic_version VALUES (:version)"), {"version": version})
        session.commit()
        answers.append(is_migrated(app))
    assert answers == [False, True, True]
