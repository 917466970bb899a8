"""Whether the lab would notice: take a safeguard out of a copy of the suite, and see the lab turn red.

    python -m tests.faults.mutants [--out PAGE] [NAME …]

Each mutant is an exact replacement in the sources; one that no longer applies is an error, not a success.
It runs as plain processes through the blow that has to show it, up to three times, and must break the rule
(or the rest) that mutant_table.py names. The control, with nothing taken out, must be green through all of
these blows.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from deploy.local.trial import scratch_folder
from deploy.local.venv import ready_venv
from tests.faults.attempt import Attempt
from tests.faults.load import Load
from tests.faults.mutant_page import HEAD, Blown, Outcome, write_page
from tests.faults.mutant_table import BROKER, EXPERIMENT, FRONT, LATE, MUTANTS, REST, Change, Strike
from tests.faults.plain_stage import start_plain_stage
from tests.faults.rules import Verdict, check_again
from tests.faults.run import describe_commit, strike
from tests.faults.stage import NOT_COPIED, REPOSITORY

TRIES = 3
PATIENCE = 900


def apply(folder: Path, changes: Sequence[Change]) -> None:
    """Make the changes in a copy of the sources; each text must be there exactly once."""
    for change in changes:
        file = folder / change.path
        text = file.read_text()
        if text.count(change.old) != 1:
            raise ValueError(f"{change.path} has {text.count(change.old)} times: {change.old.strip()}")
        file.write_text(text.replace(change.old, change.new))


def try_out(what: str, strikes: Sequence[Strike], rule: int | None, changes: Sequence[Change]) -> Outcome:
    """Run a changed copy of the suite through blows: the control each once, a mutant until it is red."""
    with scratch_folder("mutant") as folder:
        copy = folder / "suite"
        shutil.copytree(REPOSITORY, copy, ignore=NOT_COPIED, symlinks=True)
        (copy / ".venv").symlink_to(ready_venv(REPOSITORY, REPOSITORY / "deploy/local/requirements.txt"))
        apply(copy, [*EXPERIMENT, *changes])
        command = [str(copy / ".venv/bin/python"), "-m", "tests.faults.mutants", "--strike"]
        command.append(json.dumps([[s.component, s.fault, s.seconds] for s in strikes]))
        command += [] if rule is None else ["--rule", str(rule)]
        done = subprocess.run(
            command, cwd=copy, stdout=subprocess.PIPE, text=True, timeout=PATIENCE, check=False
        )
    if done.returncode != 0:
        raise RuntimeError(f"{what}: the lab itself failed ({done.returncode})")
    # What the lab shows of its rows stands on other lines.
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    blown = [Blown(**json.loads(line)) for line in lines]
    return Outcome(what, "; ".join(map(str, strikes)), rule, blown)


def run_strikes(strikes: Sequence[Strike], rule: int | None) -> None:
    """Strike the suite of this copy and print a line a blow; with a rule, until that is broken."""
    with start_plain_stage() as stage:
        load = Load(stage)
        load.prepare()
        stage.begin_watch()
        for blow in list(strikes) * (1 if rule is None else TRIES):
            row = strike(Attempt(stage, load, blow.component, blow.fault), blow.seconds)
            if rule in tell(str(blow), row.verdicts, row.troubles, rested=row.rested):
                return
        tell("afterwards", check_again(stage, load.record), (), rested=True)


def tell(strike: str, verdicts: Sequence[Verdict], troubles: Sequence[str], *, rested: bool) -> list[int]:
    """Print what one blow showed; return what it broke."""
    wrong = [verdict for verdict in verdicts if not verdict.ok]
    broken = ([] if rested else [REST]) + [verdict.rule for verdict in wrong]
    findings = [*troubles, *(verdict.finding for verdict in wrong)]
    print(json.dumps({"strike": strike, "broken": broken, "findings": findings}), flush=True)
    return broken


def run_all(names: Sequence[str]) -> list[Outcome]:
    """Try the control and the mutants out, and tell of each as soon as it is known."""
    known = {mutant.name: mutant for mutant in MUTANTS}
    chosen = [known[name] for name in names] or list(MUTANTS)
    outcomes: list[Outcome] = []

    def note(outcome: Outcome) -> None:
        print(outcome.line(), flush=True)
        outcomes.append(outcome)

    print(HEAD + "\n" + "|" + " --- |" * 5, flush=True)
    if not names:
        note(try_out("nothing (control)", (FRONT, BROKER, LATE), None, ()))
    for mutant in chosen:
        note(try_out(mutant.safeguard, (mutant.strike,), mutant.rule, mutant.changes))
    return outcomes


def main() -> int:
    """Try everything out; 1 if a mutant survives or the control is red."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.mutants")
    parser.add_argument(
        "names", nargs="*", choices=[[], *(mutant.name for mutant in MUTANTS)], metavar="NAME"
    )
    parser.add_argument("--out", type=Path, metavar="PAGE", help="write the table into a page")
    parser.add_argument("--strike", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--rule", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.strike is not None:
        run_strikes([Strike(*values) for values in arguments.strike], arguments.rule)
        return 0
    began = time.monotonic()
    outcomes = run_all(arguments.names)
    if arguments.out:
        minutes = (time.monotonic() - began) / 60
        write_page(arguments.out, outcomes, commit=describe_commit(), minutes=minutes)
    survivors = [outcome.what for outcome in outcomes if not outcome.passed]
    minutes = (time.monotonic() - began) / 60
    print(
        f"{len(outcomes)} tried in {minutes:.0f} min; not as they must be: {', '.join(survivors) or 'none'}"
    )
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
