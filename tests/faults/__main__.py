"""The command line of the lab: `python -m tests.faults`."""

import argparse
import signal
import subprocess
import sys
from pathlib import Path

from tests.faults.report import write_page
from tests.faults.run import Selection, run
from tests.faults.stage import COMPONENTS, FAULTS


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
    parser.add_argument("--pause-seconds", type=float, default=20.0, help="how long pause and cut last")
    arguments = parser.parse_args()
    if arguments.out and (arguments.quick or arguments.component or arguments.fault):
        parser.error("--out is for whole tables")
    return arguments


def choose(arguments: argparse.Namespace) -> Selection:
    """Decide what is broken."""
    pause = arguments.pause_seconds
    return Selection(
        mode=arguments.mode or ("docker" if engine_answers() else "plain"),
        components=arguments.component or COMPONENTS,
        faults=() if arguments.scenarios else arguments.fault or (("kill",) if arguments.quick else FAULTS),
        scenarios=not (arguments.quick or arguments.component or arguments.fault),
        # A kill is over when the component runs again.
        lengths={"kill": 0.0, "stop": 3.0, "pause": pause, "cut": pause, "slow": 6.0},
    )


def engine_answers() -> bool:
    """Tell whether there is a Docker engine to speak to."""
    try:
        return (
            subprocess.run(["docker", "info"], capture_output=True, timeout=10, check=False).returncode == 0
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False


def main() -> int:
    """Break, count, and tell by the exit status: 0 green, 1 red, 2 void."""
    arguments = read_arguments()
    # So that the stage is taken down then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))
    result = run(choose(arguments))
    print(result.summary())
    if arguments.out:
        write_page(arguments.out, result)
    return result.status


if __name__ == "__main__":
    sys.exit(main())
