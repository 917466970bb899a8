"""The suite as plain processes, beside any other: in a folder of its own, on free ports."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.layout import Layout
from deploy.local.processes import family
from deploy.local.supervisor import Supervisor
from tests.faults.stage import (
    COMPONENTS,
    Blow,
    Ran,
    Stage,
    StageError,
    bank_command,
    copy_repository,
    sink_command,
    write_settings,
)

LAB_PORTS = ("LAB_BANK_PORT", "LAB_SMTP_PORT", "LAB_MAILS_PORT")
# How the shop finds the judges.
JUDGES = {
    "PAYMENT_HTTP_URL": "http://127.0.0.1:{LAB_BANK_PORT}",
    "SMTP_HOST": "127.0.0.1",
    "SMTP_PORT": "{LAB_SMTP_PORT}",
}
PATIENCE = 400


@dataclass
class PlainStage(Stage):
    """A stage whose components are processes under one supervisor."""

    _judges: list["subprocess.Popen[bytes]"] = field(default_factory=list, repr=False)

    @property
    def supervisor(self) -> Supervisor:
        """Return the supervisor of the suite's processes."""
        layout = Layout(self.folder, self.folder)
        return Supervisor(layout.run, layout.sockets / "supervisor.sock")

    def blow(self, component: str, fault: str) -> Blow:
        """Prepare one of the three faults that processes can be given."""
        pid = self._pids()[component]
        if not pid:
            raise StageError(f"{component} does not run, so there is nothing to strike.")
        members = family(pid)
        return {
            "kill": Blow(_send(members, signal.SIGKILL), lambda: self.await_return(component)),
            "stop": Blow(lambda: self.supervisor.stop([component]), lambda: self._start(component)),
            "pause": Blow(_send(members, signal.SIGSTOP), _send(members, signal.SIGCONT)),
        }[fault]

    def _start(self, component: str) -> None:
        self.supervisor.start([component])
        self.await_return(component)

    def _pids(self) -> dict[str, int]:
        return {entry["name"]: entry["pid"] for entry in self.supervisor.status()}

    def lives(self) -> dict[str, str]:
        """Tell runs apart by process id and moment of start."""
        return {
            entry["name"]: f"{entry['pid']} {entry['start']}" if entry["pid"] else ""
            for entry in self.supervisor.status()
            if entry["name"] in self.components
        }

    def versions(self) -> dict[str, str]:
        """Name the distribution."""
        return {"Debian": Path("/etc/debian_version").read_text().strip()}

    def run_beside(self, service: str, *words: str) -> Ran:
        """Run a command with the user, folder and settings of a service."""
        done = call_launcher(self.folder, "run", service, *words)
        return Ran(done.returncode, done.stdout + (done.stderr if done.returncode else ""))

    def start_judges(self) -> None:
        """Start the bank and the mail sink, which end with the lab."""
        port = {name: int(self.env[name]) for name in LAB_PORTS}
        books, local = self.folder / "books", "127.0.0.1"
        books.mkdir()
        ledger = str(books / "ledger.jsonl")
        bank = bank_command(self.env, self.url, host=local, port=port["LAB_BANK_PORT"], ledger=ledger)
        sink = sink_command(
            host=local, smtp_port=port["LAB_SMTP_PORT"], http_port=port["LAB_MAILS_PORT"], folder=str(books)
        )
        for command in (bank, sink):
            log = (books / "output.log").open("ab")
            process = subprocess.Popen([sys.executable, *command], cwd=self.folder, stdout=log, stderr=log)
            self._judges.append(process)
            log.close()

    def close(self) -> None:
        """End the processes and delete the folder."""
        run_launcher(self.folder, "down")
        for process in self._judges:
            process.terminate()
            process.wait(20)
        keep_logs(self.folder)
        run_launcher(self.folder, "forget")
        shutil.rmtree(self.folder)


def _send(members: list[int], number: signal.Signals) -> Callable[[], None]:
    """Return a function that sends a signal to these processes, parents first."""

    def send() -> None:
        for member in members:
            try:
                os.kill(member, number)
            except ProcessLookupError:
                continue

    return send


def run_launcher(folder: Path, command: str) -> None:
    """Run a command of the launcher, which has to succeed."""
    done = call_launcher(folder, command)
    if done.returncode != 0:
        raise StageError(f"{command}: {(done.stderr or done.stdout).strip()[-1500:]}")


def call_launcher(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Call the launcher as an operator's shell does."""
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    return subprocess.run(
        [sys.executable, "-m", "deploy.local", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def keep_logs(folder: Path) -> None:
    """Leave the logs to whoever looks for the reason of a red cell."""
    kept = folder.parent / "logs-plain"
    shutil.rmtree(kept, ignore_errors=True)
    if (logs := Layout(folder, folder).logs).exists():
        shutil.copytree(logs, kept, ignore_dangling_symlinks=True)


def start_plain_stage() -> PlainStage:
    """Start the suite as plain processes."""
    folder = copy_repository(f"plain-{secrets.token_hex(3)}")
    # The environment that runs the lab has what the services need, too.
    (folder / ".venv").symlink_to(sys.prefix)
    stage = describe(folder, write_settings(folder, LAB_PORTS, **JUDGES))
    try:
        stage.start_judges()
        run_launcher(folder, "up")
    except BaseException:
        stage.close()
        raise
    return stage


def describe(folder: Path, env: Mapping[str, str]) -> PlainStage:
    """Say where everything of a stage answers."""
    local = "http://127.0.0.1:"
    return PlainStage(
        url=local + env["HTTP_PORT"],
        env=env,
        bank_url=local + env["LAB_BANK_PORT"],
        mail_sink_url=local + env["LAB_MAILS_PORT"],
        folder=folder,
        faults=("kill", "stop", "pause"),
        components=COMPONENTS,
    )
