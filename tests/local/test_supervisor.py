"""The supervisor starts, restarts and stops what it is told, and takes over a new configuration."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.local import accounts, health
from deploy.local.errors import SetupError
from deploy.local.processes import family, signal_family
from deploy.local.programs import Program, base_environment
from deploy.local.supervisor import Supervisor
from deploy.local.trial import scratch_folder


class Bench:
    """A supervisor with programs that only sleep."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.supervisor = Supervisor(folder, folder / "supervisor.sock")

    def launch(self, *names: str, **environment: str) -> None:
        programs = [self.program(name, environment) for name in names]
        for name in names:
            (self.folder / name).mkdir(exist_ok=True)
        self.supervisor.write(programs, self.folder)
        self.supervisor.launch(Path(sys.prefix))
        self.supervisor.start(names)
        # A signal that comes before the shell is there would be lost.
        wait_for(lambda: all(len(family(self.pid(name))) == 2 for name in names))

    def program(self, name: str, environment: dict[str, str]) -> Program:
        shell = ("/bin/sh", "-c", 'echo "$GREETING"; sleep 1000 & wait')
        variables = base_environment(self.folder) | environment
        return Program(name, shell, accounts.caller(), self.folder, variables)

    def pid(self, name: str) -> int:
        return next(int(entry["pid"]) for entry in self.supervisor.status() if entry["name"] == name)

    def said(self, name: str) -> str:
        return (self.folder / name / "output.log").read_text()


@pytest.fixture
def bench() -> Iterator[Bench]:
    with scratch_folder("test-supervisor") as folder:
        running = Bench(folder)
        yield running
        if running.supervisor.is_running():
            running.supervisor.shut_down()


def wait_for(condition: Callable[[], object], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_value_reaches_its_program_as_it_is(bench: Bench) -> None:
    bench.launch("one", GREETING="100%-sure,(x)s;ä=%(here)s")
    wait_for(lambda: bench.said("one") == "100%-sure,(x)s;ä=%(here)s\n")


def test_a_program_that_was_killed_comes_back(bench: Bench) -> None:
    bench.launch("one")
    before = bench.pid("one")
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: bench.pid("one") not in (0, before))


def test_only_what_changed_is_restarted_and_what_is_gone_is_stopped(bench: Bench) -> None:
    bench.launch("one", "two")
    before = bench.pid("one")
    bench.launch("one")
    assert [entry["name"] for entry in bench.supervisor.status()] == ["one"]
    assert bench.pid("one") == before
    bench.launch("one", GREETING="new")
    assert bench.pid("one") != before


def test_stopping_ends_children_too(bench: Bench) -> None:
    bench.launch("one")
    members = family(bench.pid("one"))
    bench.supervisor.stop(["one"])
    wait_for(lambda: not any(is_alive(pid) for pid in members))
    bench.supervisor.stop(["one"])


def test_a_frozen_family_goes_on_when_told(bench: Bench) -> None:
    bench.launch("one")
    pid = bench.pid("one")
    signal_family(pid, signal.SIGSTOP)
    wait_for(lambda: {state(member) for member in family(pid)} == {"T"})
    signal_family(pid, signal.SIGCONT)
    wait_for(lambda: {state(member) for member in family(pid)} == {"S"})


def test_programs_end_with_a_supervisor_that_was_killed(bench: Bench) -> None:
    bench.launch("one")
    members = family(bench.pid("one"))
    os.kill(int((bench.folder / "supervisord.pid").read_text()), signal.SIGKILL)
    wait_for(lambda: not is_alive(members[0]))
    bench.launch("one")
    assert bench.pid("one") != members[0]


def test_an_unknown_program_is_named(bench: Bench) -> None:
    bench.launch("one")
    with pytest.raises(SetupError, match="nobody"):
        bench.supervisor.start(["nobody"])


def test_the_configuration_is_for_its_owner_alone(bench: Bench) -> None:
    bench.launch("one", GREETING="secret")
    assert bench.supervisor.configuration.stat().st_mode & 0o777 == 0o600


def test_who_is_not_well_and_said_nothing_has_a_log_of_its_own(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.launch("one")
    monkeypatch.setattr(health, "PATIENCE", 0)
    log = bench.folder / "order-service/app.log"
    log.parent.mkdir()
    log.touch()
    with pytest.raises(SetupError, match=rf"^order-service-worker is not well after 0 s; see {log}$"):
        health.wait_until_well({"order-service-worker": lambda: False}, bench.supervisor, bench.folder)


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def is_alive(pid: int) -> bool:
    try:
        return state(pid) != "Z"
    except FileNotFoundError:
        return False
