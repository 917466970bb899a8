"""One blow of the lab, and what the judges say of it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """A blow; times are seconds since 1970, and `healed` is when the last fault was over."""

    component: str
    fault: str
    struck: float
    healed: float

    @property
    def blow(self) -> tuple[str, str]:
        """What was struck, and how."""
        return self.component, self.fault

    def covers(self, at: float, seconds: float = 120.0) -> bool:
        """Tell whether something that happened then may come of this blow."""
        return self.struck <= at <= self.healed + seconds

    def is_about(self, at: float, seconds: float = 10.0) -> bool:
        """Tell whether something that happened then was under way at this blow."""
        return self.struck - seconds <= at <= self.healed + seconds


@dataclass(frozen=True)
class Verdict:
    """What one rule says: `detail` counts what was looked at, or names what is wrong."""

    rule: int
    ok: bool
    detail: str

    @property
    def finding(self) -> str:
        """Say what it says with its rule's number."""
        return f"rule {self.rule}: {self.detail}"
