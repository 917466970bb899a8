"""The processes that one process has started, directly and indirectly."""

import os
import signal
from collections import defaultdict
from pathlib import Path


def family(pid: int) -> list[int]:
    """Return `pid` and all its descendants, parents first."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            # After the name, which may hold anything up to its last bracket, come state and parent.
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        children[parent].append(int(entry.name))
    found = [pid]
    for member in found:
        found += children[member]
    return found


def signal_family(pid: int, number: signal.Signals) -> None:
    """Send a signal to `pid` and all its descendants; who has ended meanwhile needs none."""
    for member in family(pid):
        try:
            os.kill(member, number)
        except ProcessLookupError:
            continue
