"""A plain suite of the tests' own: in a folder of its own, on free ports, deleted at the end."""

import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from deploy.local.__main__ import load_suite
from deploy.local.health import answers
from deploy.local.ports import free_ports
from deploy.local.processes import signal_family
from deploy.local.programs import Child
from deploy.local.suite import Suite as LocalSuite
from deploy.local.trial import run_command, scratch_folder, trial_folder
from tests.e2e.suite import REPOSITORY, SERVICES, Suite


@contextmanager
def run_suite() -> Iterator[Suite]:
    """Start a suite, and stop and delete it whatever happens."""
    with trial_folder() as (folder, settings):
        try:
            run_command(folder, "up")
            yield describe(load_suite(folder), settings)
        finally:
            keep_logs(folder)


def keep_logs(folder: Path) -> None:
    """Leave the logs to whoever looks for the reason of a failure."""
    kept = REPOSITORY / "build/e2e-logs"
    shutil.rmtree(kept, ignore_errors=True)
    if (folder / "logs").exists():
        shutil.copytree(folder / "logs", kept)


def describe(suite: LocalSuite, settings: Mapping[str, str]) -> Suite:
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
        rabbitmqctl=suite.rabbitmq._control,
        beside=lambda service: run_beside(suite, service),
    )


@contextmanager
def run_beside(suite: LocalSuite, service: str) -> Iterator[str]:
    """Run one more process of a service, on a port of its own."""
    program = suite.beside(service, ("flask", "serve"))
    command = (f"{program.environment['PATH'].split(':')[0]}/flask", "serve")
    [port] = free_ports(1)
    environment = {**program.environment, "PORT": str(port)}
    with scratch_folder("beside") as folder:
        child = Child(replace(program, command=command, environment=environment), folder / "log")
        child.start()
        try:
            child.wait_until(answers(f"http://127.0.0.1:{port}/health"))
            yield f"http://127.0.0.1:{port}"
        finally:
            child.stop()


def send(suite: LocalSuite, number: signal.Signals) -> Callable[[str], None]:
    """Return a function that sends a signal to a process, by its name, and to what it started."""

    def send_to(name: str) -> None:
        [pid] = [entry["pid"] for entry in suite.supervisor.status() if entry["name"] == name]
        signal_family(pid, number)

    return send_to
