"""The processes that one process has started, directly and indirectly, and what they hold."""

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


def are_connected(pids: list[int], port: int) -> bool:
    """Tell whether one of these processes has an open connection to a local port."""
    held = {inode for pid in pids for inode in _sockets(pid)}
    table = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    # Columns: local and remote address with ports in hexadecimal, state (01 is open), …, inode.
    return any(int(row[2].split(":")[1], 16) == port and row[3] == "01" and row[9] in held for row in table)


def _sockets(pid: int) -> list[str]:
    try:
        targets = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [target[8:-1] for target in targets if target.startswith("socket:[")]
