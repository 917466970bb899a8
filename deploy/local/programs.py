"""One long-running process, described the same for the supervisor and for tests."""

import ctypes
import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local import binaries
from deploy.local.accounts import Account, identity
from deploy.local.errors import SetupError

PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Program:
    """Say how one process is started and stopped, and as whom."""

    name: str
    command: tuple[str, ...]
    owner: Account
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = "TERM"
    stop_seconds: int = 20
    priority: int = 500
    # Its stdout repeats the lines of its own log file, so only what it says on stderr is kept beside that.
    writes_own_log: bool = False


def base_environment(home: Path) -> dict[str, str]:
    """Return what every process gets, and nothing that the caller's shell happens to hold."""
    return {"PATH": binaries.PATH, "HOME": str(home), "LANG": "C.UTF-8", "TZ": "UTC"}


def fingerprint(*texts: str) -> str:
    """Return a short name of a configuration: a program whose description holds it is restarted with it."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]


class Child:
    """Run one program directly under this process, for tests: it ends with us, however we end."""

    def __init__(self, program: Program, log: Path) -> None:
        self.program = program
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the program and append what it says to the log file."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self.program.command,
                cwd=self.program.directory,
                env=dict(self.program.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=self._die_with_parent,
                **identity(self.program.owner),
            )

    def _die_with_parent(self) -> None:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, self._signal())

    def _signal(self) -> signal.Signals:
        return signal.Signals["SIG" + self.program.stop_signal]

    def stop(self) -> None:
        """End the program, by force when it takes longer than it may."""
        if self._process is None:
            return
        self.send(self._signal())
        try:
            self._process.wait(self.program.stop_seconds)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """End the program at once; for servers whose data nobody will read."""
        if self._process is not None:
            self.send(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the program and to all that it started."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, number)

    @property
    def running(self) -> bool:
        """Tell whether the process is still there."""
        return self._process is not None and self._process.poll() is None

    def wait_until(self, ready: Callable[[], bool], seconds: float = 60) -> None:
        """Wait for `ready`; fail with the end of the log when the program ends or takes too long."""
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.running or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace")[-2000:]
                raise SetupError(f"{self.program.name} did not start; its log ends with:\n{tail}")
            time.sleep(0.05)
