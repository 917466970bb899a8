"""A run of the lab: which cells, on which stages, in which order."""

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime

import psycopg2

from tests.faults.afterwards import reconcile
from tests.faults.attempt import Attempt
from tests.faults.compose_stage import start_compose_stage
from tests.faults.load import Load
from tests.faults.plain_stage import start_plain_stage
from tests.faults.report import Row, Run, describe_machine, write_json
from tests.faults.rest import management
from tests.faults.rules import check_again
from tests.faults.stage import REPOSITORY, STAGES, Stage

SECONDS_TO_RECOVER = 60.0
# Between two calls of one connection: a steady load, whose mails are sent soon after it ends.
THINK_SECONDS = (0.4, 1.0)
# While the broker is away for a minute, so that the mails of that minute, too, are sent within one.
LEISURELY_SECONDS = (0.8, 2.0)
# What is promised of the two longer scenarios, and asserted.
KILLS, SECONDS_BETWEEN, SECONDS_TO_SELL_AGAIN = 5, 3.0, 30.0
SECONDS_AWAY, SECONDS_TO_DRAIN = 60.0, 30.0
# In containers there are two stages, for only one with wires between its parts can be made slow.
STAGES_OF: Mapping[str, Sequence[Callable[[], Stage]]] = {
    "docker": (lambda: start_compose_stage(wired=False), lambda: start_compose_stage(wired=True)),
    "plain": (start_plain_stage,),
}
FAULTS_OF = {"docker": (("kill", "stop", "pause", "cut"), ("slow",)), "plain": (("kill", "stop", "pause"),)}


@dataclass(frozen=True)
class Selection:
    """What a run breaks, and for how many seconds."""

    mode: str
    components: Sequence[str]
    faults: Sequence[str]
    # Whether the longer scenarios belong to it.
    scenarios: bool
    # Within which it has to be over, if that is promised.
    minutes: int | None = None
    lengths: Mapping[str, float] = field(default_factory=dict)


def run(selection: Selection, began: float) -> Run:
    """Run the selected cells, and keep the details whatever happens; it began at that monotonic time."""
    result = begin_run(selection.mode)
    result.limit = selection.minutes
    try:
        for start, possible in zip(STAGES_OF[selection.mode], FAULTS_OF[selection.mode], strict=True):
            faults = [fault for fault in possible if fault in selection.faults]
            # The scenarios are kills and stops.
            scenarios = selection.scenarios and "kill" in possible
            if faults or scenarios:
                with start() as stage:
                    result.versions = describe_versions(stage)
                    load = Load(stage, think=THINK_SECONDS)
                    for row in run_on(stage, load, selection, faults=faults, scenarios=scenarios):
                        show(row)
                        result.rows.append(row)
                    last = check_again(stage, load.record)
                    result.late += [f"at the last look: {one.finding}" for one in last if not one.ok]
                    result.reconciliations += reconcile(stage)
                    result.notes += [note for note in stage.notes if note not in result.notes]
    finally:
        result.seconds = time.monotonic() - began
        write_json(STAGES / f"{selection.mode}.json", result)
    return result


def begin_run(mode: str) -> Run:
    """Note when, where and what is put to the test."""
    return Run(
        mode=mode,
        date=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        commit=describe_commit(),
        machine=describe_machine(),
    )


def run_on(
    stage: Stage, load: Load, selection: Selection, *, faults: Sequence[str], scenarios: bool
) -> Iterator[Row]:
    """Run the cells of one stage, fault by fault, with one load and one set of books."""
    load.prepare()
    stage.begin_watch()
    try:
        for fault in faults:
            for component in selection.components:
                yield strike(Attempt(stage, load, component, fault), selection.lengths[fault])
        if scenarios:
            yield kill_database_again_and_again(Attempt(stage, load, "postgres", f"kill × {KILLS}"))
            yield keep_broker_away(Attempt(stage, load, "rabbitmq", f"away {SECONDS_AWAY:.0f} s"))
    finally:
        load.record.write(str(STAGES / f"calls-{selection.mode}.jsonl"))


def strike(attempt: Attempt, seconds: float) -> Row:
    """Run one cell of the table."""
    attempt.begin()
    with attempt.blow(attempt.fault):
        time.sleep(seconds)
    attempt.await_success(SECONDS_TO_RECOVER)
    return attempt.finish()


def kill_database_again_and_again(attempt: Attempt) -> Row:
    """Kill PostgreSQL five times; each time the shop sells again within 30 s, and needs no hand for it."""
    attempt.begin()
    for _ in range(KILLS):
        time.sleep(SECONDS_BETWEEN)
        with attempt.blow("kill", unaided=True):
            pass
        attempt.await_success(SECONDS_TO_SELL_AGAIN)
    return attempt.finish()


def keep_broker_away(attempt: Attempt) -> Row:
    """Sell for 60 s without RabbitMQ; 30 s after its return the backlog has gone out."""
    attempt.load.think = LEISURELY_SECONDS
    attempt.begin()
    with attempt.blow("stop"):
        time.sleep(SECONDS_AWAY)
    attempt.await_drained(SECONDS_TO_DRAIN)
    return attempt.finish()


def show(row: Row) -> None:
    """Print a row as soon as it is there."""
    print(row.line(), flush=True)
    for finding in row.findings:
        print(f"    {finding}", flush=True)


def describe_commit() -> str:
    """Name the commit, and say when the tree differs from it."""
    named = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    return named.stdout.strip() or "none"


def describe_versions(stage: Stage) -> dict[str, str]:
    """Name what the suite runs on."""
    with closing(psycopg2.connect(stage.databases["order"])) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        postgres = str(cursor.fetchall()[0][0]).split()[0]
    broker = management(stage).get("overview")["rabbitmq_version"]
    return {**stage.versions(), "PostgreSQL": postgres, "RabbitMQ": broker}
