"""Whether the lab would notice: take a safeguard out of a copy of the suite, and see the lab turn red.

    python -m tests.faults.mutants [--out PAGE] [NAME …]

Each mutant is an exact replacement in the sources; one that no longer applies is an error, not a success.
It runs as plain processes through the blow that has to show it, up to three times, and must break the rule
that is named here. The control, with nothing taken out, must be green through all of these blows.

Why which blow catches what:

relay-confirm      The relay deletes an event from the outbox once it is written to the connection. What
                   RabbitMQ had not stored when it was killed is gone: no consumer ever notes it (rule 5).
stock-condition    The stock is taken without looking whether there is enough. The load orders more of the
                   last pieces than there are, so that a poll sees less than none (rule 4), whatever is hit.
inbox-row          Events have their effect without a note of it, so nothing would keep a second delivery
                   from having it again. Every handled event lacks its row (rule 5), whatever is hit.
idempotency-claim  Keys are forgotten. Nginx dies while the order service goes on: the orders in flight are
                   placed and nobody is told; asked again with the same key each is placed again (rule 1).
transaction-b      An order is confirmed whatever has become of its intent. The order service is paused
                   while reservations are on their way, its worker gives these intents up and their pieces
                   back, and the process that wakes up makes orders of them: they have no stock (rule 5).
                   A request's deadline of 5 s comes long before an intent is swept at 60 s; for the late
                   confirmation to be possible at all, intents are swept after 1 s here and the pause is
                   3.2 s, in the control as in the mutant.
unknown-is-failed  A payment without an answer is called failed. The bank has captured some of those before
                   it dropped the reply; the buyer pays again, and the bank captures again (rule 2).
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.trial import scratch_folder
from deploy.local.venv import ready_venv
from tests.faults.attempt import Attempt
from tests.faults.load import Load
from tests.faults.plain_stage import start_plain_stage
from tests.faults.run import strike
from tests.faults.stage import NOT_COPIED, REPOSITORY

TRIES = 3
PATIENCE = 900
HEAD = "| taken out | blow | rule that must break | broken | what the lab said |"
BEGIN, END = "<!-- mutants: written by the run -->", "<!-- end of mutants -->"


@dataclass(frozen=True)
class Change:
    """A text that occurs once in a file, and what stands there instead."""

    path: str
    old: str
    new: str


@dataclass(frozen=True)
class Strike:
    """A blow: what is hit, how, and for how many seconds."""

    component: str
    fault: str
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.component}, {self.fault}" + (f" {self.seconds:g} s" if self.seconds else "")


@dataclass(frozen=True)
class Mutant:
    """A safeguard to take out, the blow that shows it, and the rule that must break."""

    name: str
    safeguard: str
    strike: Strike
    rule: int
    changes: Sequence[Change]


# So that a process which sleeps for less than its request's deadline can be given up meanwhile.
EXPERIMENT = (
    Change(
        "order-service/order_service/services/abandoning.py",
        "STALLED = timedelta(seconds=60)",
        "STALLED = timedelta(seconds=1)",
    ),
)
# The sweep comes every 2 s.
LATE = Strike("order-service", "pause", 3.2)
FRONT = Strike("nginx", "kill")
BROKER = Strike("rabbitmq", "kill")

MUTANTS = (
    Mutant(
        "relay-confirm",
        "the relay's confirm",
        BROKER,
        5,
        (
            Change(
                "chassis/chassis/outbox.py",
                """\
            tag = self._publisher.publish(routing_key=row.type, message_id=str(row.id), body=body)
            self._in_flight[tag] = row
""",
                """\
            self._publisher.publish(routing_key=row.type, message_id=str(row.id), body=body)
            self._confirmed.append(row)
            self._send_next(subject)
""",
            ),
        ),
    ),
    Mutant(
        "stock-condition",
        "the conditional stock update, and the table's own check",
        FRONT,
        4,
        (
            Change(
                "product-service/product_service/services/reservations.py",
                "WHERE id = product_id AND status = 'active' AND stock >= quantity\n",
                "WHERE id = product_id AND status = 'active'\n",
            ),
            Change(
                "product-service/migrations/versions/0001_catalogue_and_stock.py",
                """\
        sa.CheckConstraint("stock >= 0", name=op.f("ck_products_stock_is_not_negative")),
""",
                "",
            ),
        ),
    ),
    Mutant(
        "inbox-row",
        "the inbox row",
        FRONT,
        5,
        (
            Change(
                "chassis/chassis/inbox.py",
                """\
        if here.execute(claim.returning(InboxEntry.event_id)).first() is None:
            return False
""",
                "",
            ),
        ),
    ),
    Mutant(
        "idempotency-claim",
        "the idempotency claim",
        FRONT,
        1,
        (
            Change(
                "chassis/chassis/api.py",
                """\
            identity.user_id,
            key,
""",
                """\
            identity.user_id,
            None,
""",
            ),
        ),
    ),
    Mutant(
        "transaction-b",
        "the condition of transaction B",
        LATE,
        5,
        (
            Change(
                "order-service/order_service/services/placing.py",
                """\
        if order is not None and order.status == "reserving":
            items =\
""",
                """\
        if order is not None:
            items =\
""",
            ),
            Change(
                "order-service/order_service/models/orders.py",
                """\
        if self.status != "reserving":
            raise IllegalMove(f"confirmed while {self.status}")
""",
                "",
            ),
        ),
    ),
    Mutant(
        "unknown-is-failed",
        '"unknown is not failed"',
        FRONT,
        2,
        (
            Change(
                "order-service/order_service/services/paying.py",
                """\
        log.warning("payment unknown", payment_id=str(payment.id), reason=str(error))
        return None
""",
                """\
        log.warning("payment unknown", payment_id=str(payment.id), reason=str(error))
        return Charge("failed")
""",
            ),
        ),
    ),
)


@dataclass(frozen=True)
class Blown:
    """What one blow showed: which rules broke, and the lab's words."""

    strike: str
    broken: Sequence[int]
    findings: Sequence[str]


@dataclass(frozen=True)
class Outcome:
    """How a mutant, or the control, came out of its blows."""

    what: str
    strike: str
    rule: int | None
    blown: Sequence[Blown]

    @property
    def broken(self) -> list[int]:
        """Return the rules that broke in any blow."""
        return sorted({rule for blown in self.blown for rule in blown.broken})

    @property
    def passed(self) -> bool:
        """Tell whether it came out as it must: a mutant red by its rule, the control green."""
        if self.rule is None:
            return bool(self.blown) and not any(blown.findings for blown in self.blown)
        return self.rule in self.broken

    def line(self) -> str:
        """Return its row of the table."""
        said = next((f for blown in self.blown for f in blown.findings if self._shows(f)), "")
        expected = "none" if self.rule is None else str(self.rule)
        broken = ", ".join(map(str, self.broken)) or "none"
        mark = "✓" if self.passed else "**✗**"
        told = said.split("; ")[0].replace("|", "/")
        return f"| {self.what} | {self.strike} | {expected} | {broken} {mark} | {told} |"

    def _shows(self, finding: str) -> bool:
        return self.rule is None or finding.startswith(f"rule {self.rule}:")


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
        command += [
            json.dumps([[s.component, s.fault, s.seconds] for s in strikes]),
            "--rule",
            str(rule or 0),
        ]
        done = subprocess.run(
            command, cwd=copy, stdout=subprocess.PIPE, text=True, timeout=PATIENCE, check=False
        )
    if done.returncode != 0:
        raise RuntimeError(f"{what}: the lab itself failed ({done.returncode})")
    # What the lab shows of its rows stands on other lines.
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    blown = [Blown(**json.loads(line)) for line in lines]
    return Outcome(what, "; ".join(map(str, strikes)), rule, blown)


def run_strikes(strikes: Sequence[Strike], rule: int) -> None:
    """Strike the suite of this copy and print a line a blow; with a rule, until that is broken."""
    with start_plain_stage() as stage:
        load = Load(stage)
        load.prepare()
        stage.begin_watch()
        for blow in list(strikes) * (TRIES if rule else 1):
            row = strike(Attempt(stage, load, blow.component, blow.fault), blow.seconds)
            broken = [verdict.rule for verdict in row.verdicts if not verdict.ok]
            print(json.dumps({"strike": str(blow), "broken": broken, "findings": row.findings}), flush=True)
            if rule in broken:
                return


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


def write_page(path: Path, outcomes: Sequence[Outcome], minutes: float) -> None:
    """Put the table into its place of a page."""
    before, _, rest = path.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    if not after:
        raise ValueError(f"{path} has no place for the table")
    told = f"{time.strftime('%Y-%m-%d', time.gmtime())}, {minutes:.0f} min."
    table = "\n".join([HEAD, "|" + " --- |" * 5, *(outcome.line() for outcome in outcomes)])
    path.write_text(f"{before}{BEGIN}\n{told}\n\n{table}\n{END}{after}")


def main() -> int:
    """Try everything out; 1 if a mutant survives or the control is red."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.mutants")
    parser.add_argument(
        "names", nargs="*", choices=[[], *(mutant.name for mutant in MUTANTS)], metavar="NAME"
    )
    parser.add_argument("--out", type=Path, metavar="PAGE", help="write the table into a page")
    parser.add_argument("--strike", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--rule", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.strike is not None:
        run_strikes([Strike(*values) for values in arguments.strike], arguments.rule)
        return 0
    began = time.monotonic()
    outcomes = run_all(arguments.names)
    if arguments.out:
        write_page(arguments.out, outcomes, (time.monotonic() - began) / 60)
    survivors = [outcome.what for outcome in outcomes if not outcome.passed]
    minutes = (time.monotonic() - began) / 60
    print(
        f"{len(outcomes)} tried in {minutes:.0f} min; not as they must be: {', '.join(survivors) or 'none'}"
    )
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
