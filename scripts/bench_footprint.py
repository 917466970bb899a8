"""Print how long the whole suite takes to start and how much memory it takes when idle.

make bench-footprint        MODE=docker measures the containers of this folder: it restarts them
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from deploy.local.processes import family  # noqa: E402
from deploy.local.trial import run_command, trial_folder  # noqa: E402

SECONDS_TO_REST = 30
UNITS = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


def machine() -> str:
    """Describe what the figures were taken on."""
    lines = [line for line in read("/proc/cpuinfo").splitlines() if line.startswith("model name")]
    model = lines[0].partition(": ")[2] if lines else platform.machine()
    total = int(read("/proc/meminfo").split()[1]) / 1024**2
    return f"{os.cpu_count()} × {model}, {total:.0f} GiB, {platform.system()} {platform.release()}"


def read(path: str) -> str:
    """Return the content of a file."""
    return Path(path).read_text()


def timed(action: Callable[[], object]) -> float:
    """Return how many seconds an action took."""
    started = time.monotonic()
    action()
    return time.monotonic() - started


def proportional_memory(pid: int) -> int:
    """Return the bytes that a process and its children hold, what they share counted once (PSS)."""
    total = 0
    for member in family(pid):
        try:
            lines = read(f"/proc/{member}/smaps_rollup").splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def measure_processes() -> tuple[float, float, int]:
    """Measure a suite of our own, as plain processes."""
    with trial_folder() as (folder, _):
        first = timed(lambda: run_command(folder, "up"))
        run_command(folder, "down")
        again = timed(lambda: run_command(folder, "up"))
        time.sleep(SECONDS_TO_REST)
        supervisor = int(read(f"{folder}/data/run/supervisord.pid"))
        return first, again, proportional_memory(supervisor)


def compose(*arguments: str) -> str:
    """Run docker compose and return what it prints."""
    command = ["docker", "compose", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def container_memory() -> int:
    """Return the bytes that the suite's containers hold, page cache left out."""
    names = compose("ps", "--quiet").split()
    command = ["docker", "stats", "--no-stream", "--format", "{{json .MemUsage}}", *names]
    shown = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return sum(read_size(json.loads(line).partition(" / ")[0]) for line in shown.splitlines())


def read_size(text: str) -> int:
    """Read what `docker stats` calls a size, such as 81.3MiB."""
    number = text.rstrip("BGKMi")
    return int(float(number) * UNITS[text[len(number) :]])


def measure_containers() -> tuple[float, float, int]:
    """Measure this folder's containers, from built images."""
    compose("build")
    compose("down")
    first = timed(lambda: compose("up", "-d", "--wait"))
    compose("stop")
    again = timed(lambda: compose("up", "-d", "--wait"))
    time.sleep(SECONDS_TO_REST)
    return first, again, container_memory()


def main() -> None:
    """Measure and print."""
    mode = os.environ.get("MODE", "plain")
    first, again, memory = measure_containers() if mode == "docker" else measure_processes()
    print(f"machine              {machine()}")
    print(f"mode                 {mode}")
    print(f"cold start           {first:.1f} s (all healthy)")
    print(f"start with its data  {again:.1f} s (all healthy)")
    print(f"idle memory          {memory / 1024**2:.0f} MiB")


if __name__ == "__main__":
    main()
