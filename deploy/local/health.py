"""When the suite is well: each process by the question that Compose's health checks ask."""

import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from deploy.local import accounts
from deploy.local.errors import SetupError
from deploy.local.programs import Program
from deploy.local.services import service_of
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


def says_that_it_lives(program: Program, question: tuple[str, ...]) -> Check:
    """Return a check that a program without a port of its own answers a question by its interpreter."""

    def check() -> bool:
        command = [str(Path(program.command[0]).with_name("python")), *question]
        asked = accounts.run_as(program.owner, command, cwd=program.directory, env=program.environment)
        return asked.returncode == 0

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
    if not said:
        own = logs / service_of(name) / "app.log"
        return f"{name} {trouble}; see {own if own.exists() else log}"
    # The last line that is not part of a traceback's middle names the reason.
    reason = said[-1][:500]
    return f"{name} {trouble}; its last words in {log}: {reason}"
