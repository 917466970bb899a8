"""The worker process: relay, consumers and periodic jobs, each in its own thread."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import click
import sqlalchemy.exc
from flask import Flask
from sqlalchemy import select, text

from chassis import deadletters, outbox
from chassis.backoff import Backoff, pause
from chassis.broker import Link, Publisher
from chassis.config import ServiceSettings
from chassis.consuming import Receiver
from chassis.context import bind_context
from chassis.heartbeats import LATE_TICKS, Heartbeats, heartbeat_file, worker_health, write_heartbeat
from chassis.inbox import Consumer, is_surroundings, purge_inbox
from chassis.logs import configure_logs, get_logger, rotate_logs
from chassis.outbox import Relay
from chassis.status import StatusReport, WorkerStatus

STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}
STALE_SECONDS = 60
DRAIN_SECONDS = 18.0
RECONNECT_SECONDS = 5.0
STATUS_SECONDS = 5.0

log = get_logger(__name__)

Beat = Callable[[], None]
Work = Callable[[threading.Event, Beat], None]


@dataclass(frozen=True)
class Job:
    """A function to call every so many seconds; it returns True to be called again at once."""

    name: str
    every_seconds: float
    run: Callable[[Any], object]


@dataclass(frozen=True)
class WorkerPlan:
    """What a service's worker does; found at `app.extensions["worker"]`."""

    consumers: Sequence[Consumer] = ()
    jobs: Sequence[Job] = ()
    relay: bool = True
    # Queues that others consume for this service (Celery, say), whose dead letters are counted here.
    other_queues: Sequence[str] = ()

    @property
    def queues(self) -> list[str]:
        """Name the queues that this service owns."""
        return [*(consumer.queue for consumer in self.consumers), *self.other_queues]


def run_worker(app: Flask, plan: WorkerPlan) -> int:
    """Work until SIGTERM and return the exit status; the process ends by itself when a thread hangs."""
    # Taken by sigtimedwait below: a handler would run in the middle of anything.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    configure_logs(app.config["SETTINGS"], "worker")
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    while not is_migrated(app):
        if _is_stopped(within=1.0):
            return 0
    stop, hearts = threading.Event(), Heartbeats()
    threads = [_start(name, work, stop, hearts) for name, work in _works(app, plan).items()]
    log.info("worker started", threads=[thread.name for thread in threads])
    while not _is_stopped(within=1.0):
        _watch(hearts)
    stop.set()
    return _drain(threads)


def _is_stopped(within: float) -> bool:
    """Wait so many seconds for a signal that stops the process."""
    received = signal.sigtimedwait(STOP_SIGNALS, within)
    # When a pause of the process (SIGSTOP) outlasts the wait, CPython returns a record that nobody filled in.
    return received is not None and received.si_signo in STOP_SIGNALS


def _watch(hearts: Heartbeats) -> None:
    hearts.tick()
    if silent := hearts.silent(STALE_SECONDS):
        log.critical("worker thread hangs, ending the process", threads=silent)
        os._exit(1)
    try:
        write_heartbeat(heartbeat_file(), hearts.silent(LATE_TICKS))
    except OSError as error:
        log.error("heartbeat not written", reason=str(error))


def _drain(threads: Sequence[threading.Thread]) -> int:
    ends = monotonic() + DRAIN_SECONDS
    for thread in threads:
        thread.join(max(0.0, ends - monotonic()))
    if busy := [thread.name for thread in threads if thread.is_alive()]:
        log.error("worker stopped before these finished", threads=busy)
        return 1
    log.info("worker stopped")
    return 0


def _start(name: str, work: Work, stop: threading.Event, hearts: Heartbeats) -> threading.Thread:
    beat = partial(hearts.beat, name)
    beat()
    thread = threading.Thread(target=_keep_working, args=(name, work, stop, beat), name=name, daemon=True)
    thread.start()
    return thread


def _keep_working(name: str, work: Work, stop: threading.Event, beat: Beat) -> None:
    """Do a thread's work until `stop`, again after every failure."""
    backoff = Backoff(RECONNECT_SECONDS)
    while not stop.is_set():
        started = monotonic()
        try:
            work(stop, beat)
        except Exception as error:  # noqa: BLE001, told below
            _tell(name, error)
            if monotonic() - started > backoff.cap:
                backoff.worked()
            pause(stop, backoff.failed(), beat)


def _tell(name: str, error: Exception) -> None:
    if is_surroundings(error):
        log.warning("worker thread waits", thread=name, reason=str(error).split("\n")[0])
    else:
        log.error("worker thread failed", thread=name, exc_info=error)


def _works(app: Flask, plan: WorkerPlan) -> Mapping[str, Work]:
    settings: ServiceSettings = app.config["SETTINGS"]
    works: dict[str, Work] = {"status": partial(_report, app, plan.queues)}
    jobs = [*plan.jobs, Job("logs", 30, lambda _session: rotate_logs(settings))]
    if plan.consumers:
        jobs.append(Job("purge inbox", 3600, purge_inbox))
    if plan.relay:
        works["relay"] = partial(_relay, app)
    works |= {f"consumer {c.queue}": partial(_consume, app, c) for c in plan.consumers}
    return works | {f"job {job.name}": partial(_repeat, app, job) for job in jobs}


def _relay(app: Flask, stop: threading.Event, beat: Beat) -> None:
    settings: ServiceSettings = app.config["SETTINGS"]
    with app.app_context():
        engine = app.extensions["sqlalchemy"].engine
    connect = partial(Publisher, settings, f"{settings.service} relay")
    Relay(engine, connect, settings.service, beat).run(stop)


def _consume(app: Flask, consumer: Consumer, stop: threading.Event, beat: Beat) -> None:
    settings: ServiceSettings = app.config["SETTINGS"]
    connect = partial(Link, settings, f"{settings.service} {consumer.queue}")
    Receiver(app, consumer, connect, beat).run(stop)


def _repeat(app: Flask, job: Job, stop: threading.Event, beat: Beat) -> None:
    """Run a job until `stop`; while it fails, less and less often, but no less than it is due."""
    backoff = Backoff(max(job.every_seconds, RECONNECT_SECONDS))
    while not stop.is_set():
        beat()
        try:
            with app.app_context(), bind_context(request_id=None, traceparent=None):
                more = job.run(app.extensions["sqlalchemy"].session)
        except Exception as error:  # noqa: BLE001, told below
            _tell(threading.current_thread().name, error)
            rest = backoff.failed()
        else:
            rest = 0.0 if more is True else job.every_seconds
            # Parts of its work are not all of it: a job that fails at a later one has not worked.
            if more is not True:
                backoff.worked()
        pause(stop, rest, beat)


def _report(app: Flask, queues: Sequence[str], stop: threading.Event, beat: Beat) -> None:
    with closing(StatusReport(app.config["SETTINGS"], queues)) as report:
        _repeat(app, Job("status", STATUS_SECONDS, report), stop, beat)


def is_migrated(app: Flask) -> bool:
    """Tell whether the database is there and at this code's revision, or a later release's."""
    # Here, because the HTTP processes import this module too and have no use for Alembic's 10 MB.
    from alembic.script import ScriptDirectory

    folder = Path(app.root_path).parent / "migrations"
    try:
        with app.app_context():
            session = app.extensions["sqlalchemy"].session
            session.execute(select(WorkerStatus.name).limit(1))
            if not folder.is_dir():
                return True
            current = set(session.scalars(text("SELECT version_num FROM alembic_version")))
    except sqlalchemy.exc.SQLAlchemyError as error:
        if not is_surroundings(error):
            raise
        log.info("waiting for database and migrations", reason=str(error).split("\n")[0])
        return False
    scripts = ScriptDirectory(str(folder))
    known = {script.revision for script in scripts.walk_revisions()}
    return set(scripts.get_heads()) <= current or not current <= known


def register_commands(app: Flask) -> None:
    """Add the worker's commands to the app: worker, worker-health, consumers, outbox, dead-letters."""

    @app.cli.command("worker")
    def worker() -> None:
        """Relay events, consume queues and run the periodic jobs until SIGTERM."""
        sys.exit(run_worker(app, app.extensions.get("worker", WorkerPlan())))

    @app.cli.command("consumers")
    def consumers() -> None:
        """List the queues that the service reads, each with the types of events that have an effect."""
        for consumer in app.extensions.get("worker", WorkerPlan()).consumers:
            click.echo(f"{consumer.queue} {' '.join(sorted(consumer.handlers))}")

    app.cli.add_command(worker_health)
    outbox.register_commands(app)
    deadletters.register_commands(app)
