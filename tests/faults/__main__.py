"""The command line of the lab: `python -m tests.faults`."""

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.faults.afterwards import COMMAND
from tests.faults.report import Run, write_page
from tests.faults.run import Selection, run
from tests.faults.stage import COMPONENTS, FAULTS

# What is promised, in minutes and seconds.
MINUTES, QUICK_MINUTES, PAUSE_SECONDS = 45, 15, 20.0


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description="Break a suite of the lab's own, then count."
    )
    parser.add_argument("--quick", action="store_true", help="kill alone")
    parser.add_argument("--mode", choices=("docker", "plain"), help="else Docker where an engine answers")
    parser.add_argument("--component", action="append", choices=COMPONENTS, help="this alone (repeatable)")
    parser.add_argument("--fault", action="append", choices=FAULTS, help="this alone (repeatable)")
    parser.add_argument("--scenarios", action="store_true", help="the two longer scenarios alone")
    parser.add_argument("--out", type=Path, metavar="PAGE", help="write tables into this page")
    parser.add_argument(
        "--pause-seconds", type=float, default=PAUSE_SECONDS, help="how long pause and cut last"
    )
    arguments = parser.parse_args()
    if arguments.out and (arguments.quick or arguments.component or arguments.fault):
        parser.error("--out is for whole tables")
    if arguments.out and arguments.pause_seconds != PAUSE_SECONDS:
        parser.error(f"--out is for pauses of {PAUSE_SECONDS:.0f} s, as docs/faults.md says")
    return arguments


def choose(arguments: argparse.Namespace) -> Selection:
    """Decide what is broken."""
    pause = arguments.pause_seconds
    return Selection(
        mode=arguments.mode or ("docker" if engine_answers() else "plain"),
        components=arguments.component or COMPONENTS,
        faults=() if arguments.scenarios else arguments.fault or (("kill",) if arguments.quick else FAULTS),
        scenarios=not (arguments.quick or arguments.component or arguments.fault),
        minutes=promised_minutes(arguments),
        # A kill is over when the component runs again.
        lengths={"kill": 0.0, "stop": 3.0, "pause": pause, "cut": pause, "slow": 6.0},
    )


def promised_minutes(arguments: argparse.Namespace) -> int | None:
    """Return how long a whole run may take; nothing is promised of a part, nor of other pauses."""
    if arguments.component or arguments.fault or arguments.scenarios:
        return None
    if arguments.pause_seconds != PAUSE_SECONDS:
        return None
    return QUICK_MINUTES if arguments.quick else MINUTES


def engine_answers() -> bool:
    """Tell whether there is a Docker engine to speak to."""
    try:
        return (
            subprocess.run(["docker", "info"], capture_output=True, timeout=10, check=False).returncode == 0
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False


def tell(result: Run) -> int:
    """Print how it went; return the exit status."""
    for text in (*result.notes, *result.troubles):
        print(text)
    for one in result.reconciliations:
        print(f"{' '.join(COMMAND)} of the {one.service}: {one.verdict}")
    print(result.summary())
    return result.status


def main() -> int:
    """Break, count, and tell by the exit status: 0 green, 1 red, 2 void."""
    began = time.monotonic()
    arguments = read_arguments()
    # So that the stage is taken down then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))
    result = run(choose(arguments), began)
    status = tell(result)
    if arguments.out:
        write_page(arguments.out, result)
    return status


if __name__ == "__main__":
    sys.exit(main())
