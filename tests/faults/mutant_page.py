"""What became of the mutants, as rows of a table and in its place of a page."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.mutant_table import REST
from tests.faults.rest import NOT_AT_REST

HEAD = "| taken out | blow | rule that must break | broken | what the lab said |"
BEGIN, END = "<!-- mutants: written by the run -->", "<!-- end of mutants -->"


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
        expected = "none" if self.rule is None else _name(self.rule)
        broken = ", ".join(map(_name, self.broken)) or "none"
        mark = "✓" if self.passed else "**✗**"
        told = said.split("; ")[0].replace("|", "/")
        return f"| {self.what} | {self.strike} | {expected} | {broken} {mark} | {told} |"

    def _shows(self, finding: str) -> bool:
        begins = NOT_AT_REST if self.rule == REST else f"rule {self.rule}:"
        return self.rule is None or finding.startswith(begins)


def _name(rule: int) -> str:
    return "rest" if rule == REST else str(rule)


def write_page(path: Path, outcomes: Sequence[Outcome], *, commit: str, minutes: float) -> None:
    """Put the table into its place of a page."""
    before, _, rest = path.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    if not after:
        raise ValueError(f"{path} has no place for the table")
    told = f"{time.strftime('%Y-%m-%d', time.gmtime())}, commit `{commit}`, {minutes:.0f} min."
    table = "\n".join([HEAD, "|" + " --- |" * 5, *(outcome.line() for outcome in outcomes)])
    path.write_text(f"{before}{BEGIN}\n{told}\n\n{table}\n{END}{after}")
