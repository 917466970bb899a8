"""When the suite is well: each process by the question that Compose's health checks ask."""

import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from deploy.local import accounts
from deploy.local.errors import SetupError
from deploy.local.processes import are_connected, family
from deploy.local.programs import Program
from deploy.local.supervisor import Supervisor

PATIENCE = 180
# A program that ends again and again will not get better by waiting.
PATIENCE_WITH_ENDING = 20

Check = Callable[[], bool]


def answers(url: str) -> Check:
    """Return a check that an address answers 200."""

    def check() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.HTTPError, OSError):
            return False

    return check


def heart_beats(worker: Program) -> Check:
    """Return a check that every thread of a worker is alive."""

    def check() -> bool:
        command = [str(Path(worker.command[0]).with_name("python")), "-m", "chassis.heartbeats"]
        asked = accounts.run_as(worker.owner, command, cwd=worker.directory, env=worker.environment)
        return asked.returncode == 0

    return check


def is_connected(name: str, port: int, supervisor: Supervisor) -> Check:
    """Return a check that a program has a connection to a local server."""

    def check() -> bool:
        pids = [entry["pid"] for entry in supervisor.status() if entry["name"] == name and entry["pid"]]
        return any(are_connected(family(pid), port) for pid in pids)

    return check


def wait_until_well(checks: Mapping[str, Check], supervisor: Supervisor, logs: Path) -> None:
    """Wait until every check holds; else say which program is not well and what it said last."""
    pending = dict(checks)
    deadline = time.monotonic() + PATIENCE
    ending: dict[str, float] = {}
    while pending:
        for name in [name for name, check in pending.items() if check()]:
            del pending[name]
        _refuse_endless_ends(pending, ending, supervisor, logs)
        if pending and time.monotonic() > deadline:
            raise SetupError(_complaint(next(iter(pending)), f"is not well after {PATIENCE} s", logs))
        time.sleep(0.2 if pending else 0)


def _refuse_endless_ends(
    pending: Mapping[str, Check], ending: dict[str, float], supervisor: Supervisor, logs: Path
) -> None:
    now = time.monotonic()
    for entry in supervisor.status():
        name = entry["name"]
        if name not in pending or entry["statename"] == "RUNNING":
            ending.pop(name, None)
        elif entry["statename"] in ("BACKOFF", "FATAL"):
            ending.setdefault(name, now)
        if now - ending.get(name, now) > PATIENCE_WITH_ENDING:
            raise SetupError(_complaint(name, "ends again and again", logs))


def _complaint(name: str, trouble: str, logs: Path) -> str:
    log = logs / name / "output.log"
    said = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    # The last line that is not part of a traceback's middle names the reason.
    reason = said[-1][:500] if said else "it said nothing"
    return f"{name} {trouble}; its last words in {log}: {reason}"
