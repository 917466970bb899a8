"""Tables that a run prints at its end, and leaves in build/security."""

from collections.abc import Mapping
from pathlib import Path

from tests.e2e.suite import REPOSITORY

FOLDER = REPOSITORY / "build/security"


class Table:
    """Rows of outcomes under named columns, filled in any order."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.rows: dict[str, dict[str, str]] = {}

    def add(self, row: str, column: str, value: object) -> None:
        """Fill one cell."""
        self.rows.setdefault(row, {})[column] = str(value)

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in the order of their first appearance."""
        return list(dict.fromkeys(column for row in self.rows.values() for column in row))

    def lines(self) -> list[str]:
        """Write the table as text."""
        head = {column: column for column in self.columns}
        return [self.title, "", self._line("", head), *(self._line(n, r) for n, r in self.rows.items()), ""]

    def _line(self, name: str, cells: Mapping[str, str]) -> str:
        first = max(map(len, self.rows))
        widths = {c: max(len(c), *(len(row.get(c, "")) for row in self.rows.values())) for c in self.columns}
        shown = "  ".join(cells.get(column, "").ljust(width) for column, width in widths.items())
        return f"{name.ljust(first)}  {shown}".rstrip()


class Report:
    """The tables of one run."""

    def __init__(self) -> None:
        self.tables: dict[str, Table] = {}

    def table(self, title: str) -> Table:
        """Return the table of that title, a new one the first time."""
        return self.tables.setdefault(title, Table(title))

    def lines(self) -> list[str]:
        """Write all tables as text."""
        return [line for table in self.tables.values() for line in table.lines()]

    def keep(self) -> Path:
        """Write the tables to a file and return it."""
        FOLDER.mkdir(parents=True, exist_ok=True)
        kept = FOLDER / "report.txt"
        kept.write_text("\n".join(self.lines()) + "\n")
        return kept
