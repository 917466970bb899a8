"""The table of a run: printed, kept as JSON, and written into its page."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from tests.faults.afterwards import COMMAND, Reconciliation
from tests.faults.cells import Verdict
from tests.faults.stage import FAULTS

FEWEST_IN_FLIGHT = 20
RULES = range(1, 8)
HEAD = "| component | fault | calls | unknown | in flight | back after | at rest after | "
GREEN, RED, VOID = 0, 1, 2


@dataclass(frozen=True)
class Row:
    """One cell.

    `recovery`, `rest` and `seconds` are durations: from the blow, from its end, of all. `rested` tells
    whether the rest came in time, `last` is what kept the suite from it longest.
    """

    component: str
    fault: str
    calls: int
    unknown: int
    in_flight: int
    recovery: float | None
    rest: float
    rested: bool
    last: str
    seconds: float
    verdicts: Sequence[Verdict]
    troubles: Sequence[str]

    @property
    def green(self) -> bool:
        """Tell whether everything holds."""
        return not self.troubles and all(verdict.ok for verdict in self.verdicts)

    @property
    def findings(self) -> list[str]:
        """Say what does not hold."""
        return [*self.troubles, *(verdict.finding for verdict in self.verdicts if not verdict.ok)]

    def line(self) -> str:
        """Return the row for a terminal."""
        back = "-" if self.recovery is None else f"{self.recovery:.1f} s"
        marks = " ".join(f"{verdict.rule}{'✓' if verdict.ok else '✗'}" for verdict in self.verdicts)
        counts = f"{self.calls:5} calls {self.unknown:4} unknown {self.in_flight:3} in flight"
        name = f"{self.component:27} {self.fault:9}"
        return f"{name} {counts}  back {back:>7}  rest {self.rest:5.1f} s  {marks}  {self.seconds:.0f} s"

    def cells(self) -> list[str]:
        """Return the row for the page."""
        back = "–" if self.recovery is None else f"{self.recovery:.1f} s"
        marks = {verdict.rule: "✓" if verdict.ok else "**✗**" for verdict in self.verdicts}
        counts = [str(self.calls), str(self.unknown), str(self.in_flight), back, f"{self.rest:.1f} s"]
        return [self.component, self.fault, *counts, *(marks.get(rule, "") for rule in RULES)]


@dataclass
class Run:
    """All rows of one run, and what it ran on."""

    mode: str
    date: str
    commit: str
    machine: str
    versions: Mapping[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    # Of the whole process: image builds, starts of stages and their ends included.
    seconds: float = 0.0
    # The minutes that are promised of such a run, if any are.
    limit: int | None = None
    # What the judges saw only when they looked once more, after the last cell of a stage.
    late: list[str] = field(default_factory=list)
    reconciliations: list[Reconciliation] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def in_flight(self) -> int:
        """Count the checkouts that were in flight at the blows."""
        return sum(row.in_flight for row in self.rows)

    @property
    def troubles(self) -> list[str]:
        """Say what does not hold of the run as a whole."""
        found = [*self.late, *(one.finding for one in self.reconciliations if one.finding)]
        if self.limit is not None and self.seconds > self.limit * 60:
            minutes, seconds = divmod(self.seconds, 60)
            found.append(f"the run took {minutes:.0f} min {seconds:.0f} s, more than its {self.limit} min")
        return found

    @property
    def status(self) -> int:
        """Return the exit status: red, void (it has hit too little to prove anything), or green."""
        if self.troubles or not all(row.green for row in self.rows):
            return RED
        return GREEN if self.in_flight >= FEWEST_IN_FLIGHT else VOID

    def summary(self) -> str:
        """Say in one line how it went."""
        red = sum(not row.green for row in self.rows)
        told = f"{len(self.rows)} cells, {red} red, {self.in_flight} checkouts in flight at the blows"
        void = f"; void, for that is fewer than {FEWEST_IN_FLIGHT}" if self.status == VOID else ""
        return f"{told}, {self.seconds / 60:.0f} min from start to end{void}"

    def markdown(self) -> str:
        """Return the run as a section of the page."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        head = HEAD + " | ".join(map(str, RULES)) + " |"
        lines = [
            f"{self.date}, commit `{self.commit}`, {self.machine}.",
            f"{versions}.",
            f"{self.summary()}.",
            *(f"{note}." for note in self.notes),
            "",
            head,
            "|" + " --- |" * head.count(" |"),
            *(f"| {' | '.join(row.cells())} |" for row in self.rows),
            *self._afterwards(),
        ]
        findings = [f"- {row.component}, {row.fault}: {text}" for row in self.rows for text in row.findings]
        findings += [f"- {text}" for text in self.troubles]
        return "\n".join([*lines, *(["", "What does not hold:", "", *findings] if findings else [])])

    def _afterwards(self) -> list[str]:
        """Tell what the suite itself says of its books."""
        if not self.reconciliations:
            return []
        told = dict.fromkeys(one.verdict for one in self.reconciliations)
        return ["", f"`{' '.join(COMMAND)}` afterwards: {'; '.join(told)}."]


def write_page(path: Path, run: Run) -> None:
    """Put table and scenarios, what there is of them, in the place of the last ones; the rest stays."""
    table = [row for row in run.rows if row.fault in FAULTS]
    scenarios = [row for row in run.rows if row.fault not in FAULTS]
    text = path.read_text()
    for place, rows in ((run.mode, table), (f"{run.mode} scenarios", scenarios)):
        if rows:
            text = _replace(text, place, replace(run, rows=rows).markdown())
    path.write_text(text)


def _replace(text: str, place: str, section: str) -> str:
    begin, end = f"<!-- {place}: written by the run -->", f"<!-- end of {place} -->"
    before, _, rest = text.partition(begin)
    after = rest.partition(end)[2]
    if not after:
        raise ValueError(f"the page has no place for {place}")
    return f"{before}{begin}\n{section}\n{end}{after}"


def write_json(path: Path, run: Run) -> None:
    """Keep every detail for whoever looks for the reason of a red cell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(run), ensure_ascii=False, indent=1))


def describe_machine() -> str:
    """Say what the run was taken on."""
    cpus = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in cpus if line.startswith("model name")), "")
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 1024**2
    system = f"{platform.system()} {platform.release()}"
    return f"{os.cpu_count()} × {model or platform.machine()}, {memory:.0f} GiB, {system}"
