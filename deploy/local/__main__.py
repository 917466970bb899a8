"""The commands of the plain suite: `python -m deploy.local up`, and so on."""

import argparse
import errno
import os
import shutil
import sys
from pathlib import Path

from deploy.local import accounts, addresses
from deploy.local.errors import SetupError
from deploy.local.layout import Layout
from deploy.local.services import service_of
from deploy.local.settings import Settings
from deploy.local.suite import Suite

SOURCE = Path(__file__).resolve().parents[2]


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.local", description="Run the suite without Docker."
    )
    parser.add_argument("--root", type=Path, default=SOURCE, help="the folder that gets data/ and logs/")
    parser.add_argument("--env", type=Path, help="the settings, instead of ROOT/.env")
    parser.add_argument("command", choices=sorted((*COMMANDS, RUN)))
    parser.add_argument("process", nargs="?", help="for start, stop, restart, logs and run")
    parser.add_argument("words", nargs=argparse.REMAINDER, help="for run: the command")
    arguments = parser.parse_args()
    if (arguments.command == RUN) != bool(arguments.words):
        parser.error(f"{RUN} needs a process and a command, and nothing else takes one")
    return arguments


def load_suite(root: Path, env: Path | None = None) -> Suite:
    """Describe the suite of a folder; without settings it gets those of the example."""
    root = root.resolve()
    env, example = env or root / ".env", SOURCE / ".env.example"
    if not env.exists():
        shutil.copy(example, env)
        env.chmod(0o600)
    return Suite(Layout(SOURCE, root), Settings.load(env, example))


def up(suite: Suite, _: str | None) -> None:
    """Start the suite and print where it answers."""
    suite.up()
    for name, address in addresses.urls(suite.ports).items():
        print(f"{name:22} {address}")


def url(suite: Suite, _: str | None) -> None:
    """Print the address of the shop."""
    print(addresses.urls(suite.known_ports() or suite.ports)["shop"])


def down(suite: Suite, _: str | None) -> None:
    """Stop every process; the data stays."""
    _shut_down(suite)
    print("The suite is stopped; its data is kept.")


def status(suite: Suite, _: str | None) -> None:
    """Print each process."""
    _demand_running(suite)
    for entry in suite.supervisor.status():
        print(f"{entry['name']:30} {entry['statename']:10} {entry['description']}")


def logs(suite: Suite, process: str | None) -> None:
    """Follow the log files, all or one process's."""
    folders = {process, service_of(process)} if process else {"*"}
    found = sorted(path for folder in folders for path in suite.layout.logs.glob(f"{folder}/*.log"))
    if not found:
        raise SetupError(f"There are no logs of {process or 'anything'} in {suite.layout.logs} yet.")
    os.execvp("tail", ["tail", "-n", "50", "-F", *map(str, found)])


def start(suite: Suite, process: str | None) -> None:
    """Start one process."""
    _demand_running(suite)
    suite.supervisor.start([_named(process)])


def stop(suite: Suite, process: str | None) -> None:
    """Stop one process."""
    _demand_running(suite)
    suite.supervisor.stop([_named(process)])


def restart(suite: Suite, process: str | None) -> None:
    """Stop one process and start it again."""
    stop(suite, process)
    start(suite, process)


def forget(suite: Suite, _: str | None) -> None:
    """Stop the suite and delete its data and logs."""
    _shut_down(suite)
    suite.layout.delete()
    print("Data and logs are deleted.")


def run(suite: Suite, process: str, words: list[str]) -> None:
    """Become a command that runs as a service's process does."""
    program = suite.beside(process, words)
    os.chdir(program.directory)
    accounts.become(program.owner)
    try:
        os.execvpe(program.command[0], program.command, program.environment)
    except FileNotFoundError:
        raise SetupError(f"There is no command {program.command[0]}.") from None


def _shut_down(suite: Suite) -> None:
    if suite.supervisor.is_running():
        suite.supervisor.shut_down()


def _named(process: str | None) -> str:
    if not process:
        raise SetupError("Name a process: make restart SERVICE=order-service; make status lists them.")
    return process


def _demand_running(suite: Suite) -> None:
    if not suite.supervisor.is_running():
        raise SetupError("The suite does not run; start it with make up.")


RUN = "run"
# What a shell tells of a command that Ctrl-C ended.
BROKEN_OFF = 130
COMMANDS = {
    command.__name__: command for command in (up, url, down, status, logs, start, stop, restart, forget)
}


def main() -> int:
    """Run one command; what an operator can change is said in one sentence."""
    os.umask(0o022)
    arguments = read_arguments()
    try:
        suite = load_suite(arguments.root, arguments.env)
        if arguments.command == RUN:
            run(suite, arguments.process, arguments.words)
        else:
            COMMANDS[arguments.command](suite, arguments.process)
    except SetupError as error:
        print(error, file=sys.stderr)
    except OSError as error:
        print(_explain(error), file=sys.stderr)
    except KeyboardInterrupt:
        _say_broken_off(arguments.command)
        return BROKEN_OFF
    else:
        return 0
    return 1


def _say_broken_off(command: str) -> None:
    # A restore or a move has the last word on what it began.
    if command == RUN or "SAYS_WHAT_IS_LEFT" in os.environ:
        return
    if command == up.__name__:
        told = "Broken off, so the suite may be half up: make up goes on, make down stops it."
    else:
        told = "Broken off: run the command again to finish it."
    print(told, file=sys.stderr)


def _explain(error: OSError) -> str:
    place = error.filename or "a file"
    if error.errno == errno.ENOSPC:
        return f"The disk is full ({place}); free some space and run the command again."
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"No permission for {place}: another user made it; run this as that user, or change its owner."
    return f"{error.strerror}: {place}."


if __name__ == "__main__":
    sys.exit(main())
