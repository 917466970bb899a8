"""The steps of a rolling restart, against a Docker of files: one a container, whose text is its health."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
FAKE_DOCKER = """\
#!/bin/bash
cd "$FOLDER/containers"
case "$1 $2" in
    "compose ps") ls ;;
    "compose up")
        number=$(sed 's/.*=\\([0-9]*\\) .*/\\1/' <<<"$*")
        while [ "$(ls | wc -l)" -lt "$number" ]; do
            echo "$NEW_HEALTH" >"new-$(wc -l <../started)"
            echo >>../started
        done
        ;;
    inspect*)
        case $3 in
            *Health*) cat "$4" ;;
            *Name*) echo "/$4" ;;
            *ExitCode*) echo "$EXIT_CODE" ;;
        esac
        ;;
    stop*) touch ../stopping && sleep "$DRAIN_SECONDS" ;;
    rm*) rm -f "${@: -1}" ;;
    logs*) echo "its last words" ;;
esac
"""


class Machine:
    """A folder with the script, and containers that are files."""

    def __init__(self, folder: Path, *replicas: str) -> None:
        self.folder = folder
        (folder / "scripts").mkdir()
        shutil.copy(REPOSITORY / "scripts/rolling_restart.sh", folder / "scripts")
        (folder / "docker").write_text(FAKE_DOCKER)
        (folder / "docker").chmod(0o755)
        (folder / "started").touch()
        (folder / "containers").mkdir()
        for name in replicas:
            (folder / "containers" / name).write_text("healthy\n")

    def start(self, service: str = "order-service", **changes: str) -> "subprocess.Popen[str]":
        env = {"PATH": f"{self.folder}:{os.environ['PATH']}", "FOLDER": str(self.folder)}
        env |= {
            "NEW_HEALTH": "healthy",
            "EXIT_CODE": "0",
            "DRAIN_SECONDS": "0",
            "WAIT_SECONDS": "0",
        } | changes
        command = [str(self.folder / "scripts/rolling_restart.sh"), service]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=env, stdout=pipe, stderr=pipe, text=True, start_new_session=True)

    def run(self, service: str = "order-service", **changes: str) -> tuple[int, str, str]:
        with self.start(service, **changes) as process:
            told, complained = process.communicate(timeout=60)
        return process.returncode, told, complained

    @property
    def containers(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "containers").iterdir())


def test_each_replica_leaves_before_its_successor_comes(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "a", "b")
    status, told, _ = machine.run()
    assert (status, machine.containers) == (0, ["new-0", "new-1"])
    gone = "{} has finished its requests and is gone."
    assert told.splitlines() == [
        gone.format("a"), "new-0 is healthy.", gone.format("b"), "new-1 is healthy."
    ]  # fmt: skip


def test_the_successor_of_a_single_replica_comes_first(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "a")
    status, told, _ = machine.run()
    assert (status, machine.containers) == (0, ["new-0"])
    assert told.splitlines()[0] == "new-0 is healthy."


@pytest.mark.parametrize(("replicas", "left"), [(("a",), ["a"]), (("a", "b"), ["b"])])
def test_a_replica_that_does_not_become_healthy_ends_it(
    tmp_path: Path, replicas: tuple[str, ...], left: list[str]
) -> None:
    machine = Machine(tmp_path, *replicas)
    status, _, complained = machine.run(NEW_HEALTH="starting")
    assert (status, machine.containers) == (1, left)
    assert complained.splitlines() == [
        "its last words", "The new replica did not become healthy and was removed; 1 of the old go on."
    ]  # fmt: skip


def test_a_replica_that_was_killed_is_said_and_replaced(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "a", "b")
    status, _, complained = machine.run(EXIT_CODE="137")
    assert (status, machine.containers) == (1, ["b", "new-0"])
    assert complained.startswith("a had not finished after 30 s and was killed")


def test_an_interrupted_restart_lets_the_replica_finish_and_leaves_as_many(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "a", "b")
    with machine.start(DRAIN_SECONDS="1") as process:
        ends = time.monotonic() + 20
        while not (tmp_path / "stopping").exists():
            assert time.monotonic() < ends, "nothing was stopped"
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode != 0
    assert machine.containers == ["b", "new-0"]


@pytest.mark.parametrize(
    ("replicas", "service", "sentence"),
    [
        (
            ("a",),
            "postgres",
            "Name a service that Nginx leads to: make rolling-restart SERVICE=order-service",
        ),
        ((), "order-service", "order-service does not run: make up starts it."),
    ],
)
def test_what_cannot_be_restarted_is_refused(
    tmp_path: Path, replicas: tuple[str, ...], service: str, sentence: str
) -> None:
    machine = Machine(tmp_path, *replicas)
    status, _, complained = machine.run(service)
    assert (status, complained.splitlines(), machine.containers) == (1, [sentence], list(replicas))


def test_while_a_replica_is_ill_nothing_is_restarted(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "a", "b")
    (tmp_path / "containers/b").write_text("unhealthy\n")
    status, _, complained = machine.run()
    assert (status, machine.containers) == (1, ["a", "b"])
    assert complained == "b is not healthy, so nothing was restarted.\n"
