"""Signs of life of a worker's threads, and the light command by which a container asks for them."""

import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click

LATE_TICKS = 30
FRESH_SECONDS = 15.0


def heartbeat_file() -> Path:
    """Return where the worker of this folder leaves its signs of life."""
    # The working folder tells the services of one machine apart, and needs no app to be loaded.
    here = hashlib.sha256(os.getcwd().encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"worker-{here}.heartbeat"


class Heartbeats:
    """Ages of threads or tasks, in ticks of the watching thread: a pause of the whole process ages nobody."""

    def __init__(self) -> None:
        self._now = 0
        self._last: dict[str, int] = {}

    def beat(self, name: str) -> None:
        """Note that one lives."""
        self._last[name] = self._now

    def forget(self, name: str) -> None:
        """Expect no more signs of one that has ended."""
        self._last.pop(name, None)

    def tick(self) -> None:
        """Let the time between two looks pass."""
        self._now += 1

    def silent(self, ticks: int) -> list[str]:
        """Name those that gave no sign for more than so many ticks."""
        return [name for name, last in list(self._last.items()) if self._now - last > ticks]


def write_heartbeat(path: Path, late: Sequence[str]) -> None:
    """Leave a sign of life that names who is late."""
    handle, name = tempfile.mkstemp(prefix=path.name, dir=path.parent)
    with os.fdopen(handle, "w") as file:
        file.write("\n".join(late))
    os.replace(name, path)


def worker_trouble(path: Path) -> str | None:
    """Return what is wrong with the worker, or None when every thread's heartbeat is fresh."""
    try:
        age = time.time() - path.stat().st_mtime
        late = path.read_text().split()
    except FileNotFoundError:
        return "no worker has started here"
    if age > FRESH_SECONDS:
        return f"no heartbeat for {age:.0f} s"
    return "late: " + " ".join(late) if late else None


@click.command("worker-health")
def worker_health() -> None:
    """Exit with 0 when every thread of this folder's worker is alive."""
    if trouble := worker_trouble(heartbeat_file()):
        click.echo(trouble, err=True)
        sys.exit(1)
    click.echo("ok")


if __name__ == "__main__":
    worker_health()
