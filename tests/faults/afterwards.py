"""What the suite itself says of its books once everything is over."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from tests.faults.stage import Ran, Stage

COMMAND = ("flask", "reconcile")
# The services that have this command.
RECONCILED = ("order-service",)
# The exit status that timeout(1) gives to what it ends.
UNFINISHED = 124


@dataclass(frozen=True)
class Reconciliation:
    """What `flask reconcile` of a service printed, and its exit status: 0 means that all agrees."""

    service: str
    status: int
    output: str

    @property
    def verdict(self) -> str:
        """Return its last line, which counts the drift."""
        return (self.output.splitlines() or [f"exit status {self.status}"])[-1]

    @property
    def finding(self) -> str:
        """Say what does not agree; nothing when all does."""
        if self.status == 0:
            return ""
        told = "; ".join(self.output.splitlines()) or self.verdict
        return f"`{' '.join(COMMAND)}` of the {self.service}: {told}"


def reconcile(stage: Stage) -> Iterator[Reconciliation]:
    """Have each service that can compare its books with the others', inside the stage."""
    for service in RECONCILED:
        try:
            done = stage.run_beside(service, *COMMAND)
        except subprocess.TimeoutExpired as late:
            done = Ran(UNFINISHED, f"not over after {late.timeout:.0f} s")
        yield Reconciliation(service, done.status, done.output)
