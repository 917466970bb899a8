"""The judges outside the suite as processes of this machine: the bank and the mail sink."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3

from deploy.local.accounts import caller
from deploy.local.ports import free_ports
from deploy.local.programs import Child, Program, base_environment
from deploy.local.trial import scratch_folder

REPOSITORY = Path(__file__).resolve().parents[2]
BANK_KEY = "bank-key-for-tests"
WEBHOOK_SECRET = "bank-webhook-secret-for-tests"

_pool = urllib3.PoolManager(timeout=10, retries=False)


@dataclass(frozen=True)
class Outsider:
    """A running judge: its address for the lab, and its process."""

    url: str
    child: Child

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request of the lab and return the answer."""
        answer = _pool.request(method, self.url + path, json=body)
        assert answer.status == 200, answer.data
        return answer.json()

    def is_ready(self) -> bool:
        """Tell whether it answers."""
        try:
            return _pool.request("GET", self.url + "/lab/health").status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def start(self) -> None:
        """Start it, also again after its end."""
        self.child.start()
        self.child.wait_until(self.is_ready)


class Bank(Outsider):
    """The payment provider."""

    def ledger(self, payment_id: str | None = None) -> list[dict[str, Any]]:
        """Return what its ledger says, of one payment or of all."""
        lines: list[dict[str, Any]] = self.ask("GET", "/lab/ledger")
        return [line for line in lines if payment_id in (None, line["payment_id"])]

    def kinds(self, payment_id: str) -> list[str]:
        """Return what happened to a payment, in its order."""
        return [line["kind"] for line in self.ledger(payment_id)]

    def behave(self, **changes: Any) -> None:
        """Change how it behaves."""
        self.ask("PUT", "/lab/behaviour", changes)


class MailSink(Outsider):
    """The mail server; `smtp_port` is where it takes mails."""

    @property
    def smtp_port(self) -> int:
        """Return where it takes mails."""
        command = self.child.program.command
        return int(command[command.index("--smtp-port") + 1])

    def mails(self) -> list[dict[str, Any]]:
        """Return every mail that it took."""
        mails: list[dict[str, Any]] = self.ask("GET", "/lab/mails")
        return mails


@contextmanager
def run_bank(*options: str) -> Iterator[Bank]:
    """Run a bank with a ledger of its own."""
    with scratch_folder("test-bank") as folder:
        port = free_ports(1)[0]
        named = ("--port", str(port), "--ledger", str(folder / "ledger.jsonl"), "--key", BANK_KEY)
        bank = Bank(
            f"http://127.0.0.1:{port}",
            _child("bank", folder, *named, "--webhook-secret", WEBHOOK_SECRET, *options),
        )
        try:
            bank.start()
            yield bank
        finally:
            bank.child.kill()


@contextmanager
def run_mail_sink() -> Iterator[MailSink]:
    """Run a mail sink with a folder of its own."""
    with scratch_folder("test-sink") as folder:
        smtp, http = free_ports(2)
        named = ("--smtp-port", str(smtp), "--http-port", str(http), "--folder", str(folder / "mails"))
        sink = MailSink(f"http://127.0.0.1:{http}", _child("mail_sink", folder, *named))
        try:
            sink.start()
            yield sink
        finally:
            sink.child.kill()


def _child(name: str, folder: Path, *options: str) -> Child:
    command = (sys.executable, "-m", f"tests.faults.{name}", *options)
    program = Program(
        name, command, caller(), REPOSITORY, base_environment(folder) | {"PYTHONDONTWRITEBYTECODE": "1"}
    )
    return Child(program, folder / "log")
