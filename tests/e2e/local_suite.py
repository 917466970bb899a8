"""A plain suite of the tests' own: in a folder of its own, on free ports, deleted at the end."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local.__main__ import load_suite
from deploy.local.addresses import DEVELOPMENT, INTERNAL, PUBLIC
from deploy.local.ports import free_ports
from deploy.local.processes import signal_family
from deploy.local.settings import read_values
from deploy.local.suite import Suite as LocalSuite
from tests.e2e.suite import REPOSITORY, SERVICES, Suite
from tests.servers import scratch_folder

PATIENCE = 400


@contextmanager
def run_suite() -> Iterator[Suite]:
    """Start a suite, and stop and delete it whatever happens."""
    with scratch_folder("suite") as folder:
        settings = write_settings(folder / ".env")
        try:
            command(folder, "up")
            yield describe(load_suite(folder), settings)
        finally:
            keep_logs(folder)
            command(folder, "forget")


def write_settings(file: Path) -> dict[str, str]:
    """Write the example's settings with free ports, and return them."""
    names = [*PUBLIC, *INTERNAL, *DEVELOPMENT]
    ports = dict(zip(names, map(str, free_ports(len(names))), strict=True))
    settings = read_values(REPOSITORY / ".env.example") | ports
    file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    return settings


def keep_logs(folder: Path) -> None:
    """Leave the logs to whoever looks for the reason of a failure."""
    kept = REPOSITORY / "build/e2e-logs"
    shutil.rmtree(kept, ignore_errors=True)
    if (folder / "logs").exists():
        shutil.copytree(folder / "logs", kept)


def command(folder: Path, name: str) -> None:
    """Run a command of the launcher as an operator's shell does."""
    line = [sys.executable, "-m", "deploy.local", "--root", str(folder), name]
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    done = subprocess.run(
        line, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr or done.stdout


def describe(suite: LocalSuite, settings: dict[str, str]) -> Suite:
    """Describe the suite as the tests see it."""
    local = "://127.0.0.1:"
    return Suite(
        url=f"http{local}{settings['HTTP_PORT']}",
        https_url=f"https{local}{settings['HTTPS_PORT']}",
        service_urls={
            name: f"http{local}{settings[name.upper().replace('-', '_') + '_PORT']}" for name in SERVICES
        },
        mail_url=f"http{local}{settings['MAIL_PORT']}",
        rabbitmq_url=f"http{local}{settings['RABBITMQ_MANAGEMENT_PORT']}",
        env=settings,
        logs=suite.layout.logs,
        stop=lambda name: suite.supervisor.stop([name]),
        start=lambda name: suite.supervisor.start([name]),
        pause=send(suite, signal.SIGSTOP),
        resume=send(suite, signal.SIGCONT),
    )


def send(suite: LocalSuite, number: signal.Signals) -> Callable[[str], None]:
    """Return a function that sends a signal to a process, by its name, and to what it started."""

    def send_to(name: str) -> None:
        [pid] = [entry["pid"] for entry in suite.supervisor.status() if entry["name"] == name]
        signal_family(pid, number)

    return send_to
