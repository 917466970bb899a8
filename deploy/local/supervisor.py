"""Supervisor, the existing process supervisor: its configuration, and commands to a running one."""

import http.client
import shlex
import socket
import subprocess
import time
import xmlrpc.client
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local import accounts
from deploy.local.errors import SetupError
from deploy.local.programs import Program, base_environment

HEAD = """\
[unix_http_server]
file={socket}
chmod=0700

[supervisord]
logfile={run}/supervisord.log
logfile_maxbytes=5MB
logfile_backups=1
pidfile={run}/supervisord.pid
childlogdir={run}
identifier=ecommerce-basic
umask=022
minfds=4096
{user}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""
# The launcher starts each program when it is its turn; from then on the supervisor restarts whatever ends.
PROGRAM = """
[program:{name}]
command={command}
directory={directory}
environment={environment}
priority={priority}
autostart=false
autorestart=true
startsecs=5
startretries=1000000
stopsignal={stop_signal}
stopwaitsecs={stop_seconds}
stopasgroup=true
killasgroup=true
{stream}_logfile={log}
{stream}_logfile_maxbytes=20MB
{stream}_logfile_backups=4
{other}
{user}
"""
DIE_WITH_PARENT = ("/usr/bin/setpriv", "--pdeathsig")
SERVERS = 100  # the priorities of servers are up to this
UNKNOWN, ALREADY_STARTED, NOT_RUNNING = 10, 60, 70


class _Connection(http.client.HTTPConnection):
    """Speak HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=90)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> _Connection:
        # Kept where the base class closes it.
        self._connection = host, _Connection(self._path)
        return self._connection[1]


@dataclass(frozen=True)
class Supervisor:
    """Command one supervisor; `run` holds its files, `socket` is where it listens."""

    run: Path
    socket: Path

    @property
    def configuration(self) -> Path:
        """Return its configuration file, which holds the processes' secrets."""
        return self.run / "supervisord.conf"

    def write(self, programs: Iterable[Program], logs: Path) -> None:
        """Write the configuration for these programs, each with `logs/NAME/output.log`."""
        as_user = f"user={accounts.caller().name}"
        text = HEAD.format(socket=self.socket, run=self.run, user=as_user)
        text += "".join(_section(program, logs) for program in programs)
        accounts.write_for(accounts.caller(), self.configuration, text)

    def is_running(self) -> bool:
        """Tell whether it answers."""
        try:
            self._ask("getPID")
        except (OSError, http.client.HTTPException):
            return False
        return True

    def launch(self, venv: Path) -> None:
        """Start it in the background, or let a running one take over the new configuration."""
        if self.is_running():
            self._update()
            return
        command = [str(venv / "bin/supervisord"), "-c", str(self.configuration)]
        started = subprocess.run(
            command, env=base_environment(self.run), capture_output=True, text=True, check=False
        )
        if started.returncode != 0:
            raise SetupError(f"The supervisor did not start: {(started.stderr or started.stdout).strip()}")
        deadline = time.monotonic() + 15
        while not self.is_running():
            if time.monotonic() > deadline:
                raise SetupError(f"The supervisor does not answer; see {self.run}/supervisord.log.")
            time.sleep(0.05)

    def _update(self) -> None:
        """Take out what is gone or different, and put in what is new."""
        added, changed, removed = self._ask("reloadConfig")[0]
        self.stop((*changed, *removed))
        for name in (*changed, *removed):
            self._ask("removeProcessGroup", name)
        for name in (*added, *changed):
            self._ask("addProcessGroup", name)

    def start(self, names: Iterable[str]) -> None:
        """Start programs without waiting for them; those that run already stay."""
        for name in names:
            self._command("startProcess", name, tolerated=ALREADY_STARTED)

    def stop(self, names: Iterable[str]) -> None:
        """Stop programs, all at once, and wait until they have ended."""
        wanted = set(names)
        for name in wanted:
            self._command("stopProcess", name, tolerated=NOT_RUNNING)
        while any(entry["name"] in wanted and entry["statename"] == "STOPPING" for entry in self.status()):
            time.sleep(0.05)

    def _command(self, method: str, name: str, tolerated: int) -> None:
        try:
            self._ask(method, name, False)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == UNKNOWN:
                raise SetupError(f"There is no process {name}; make status lists them.") from None
            if fault.faultCode != tolerated:
                raise

    def status(self) -> list[dict[str, Any]]:
        """Return one entry a program: name, statename, pid, start, now, …"""
        return list(self._ask("getAllProcessInfo"))

    def origin(self, name: str) -> tuple[Path, Path]:
        """Return the release's folder and the virtual environment that a service's program runs from."""
        for entry in self._ask("getAllConfigInfo"):
            if entry["name"] == name:
                executable = shlex.split(entry["command"])[len(DIE_WITH_PARENT) + 2]
                return Path(entry["directory"]).parent, Path(executable).parents[1]
        raise SetupError(f"There is no process {name}; make status lists them.")

    def shut_down(self) -> None:
        """Stop the services, then their servers, each all at once, then the supervisor itself."""
        pid = self._ask("getPID")
        programs = self._ask("getAllConfigInfo")
        for is_service in (True, False):
            self.stop(entry["name"] for entry in programs if (entry["process_prio"] > SERVERS) == is_service)
        self._ask("shutdown")
        deadline = time.monotonic() + 120
        while Path(f"/proc/{pid}/stat").exists() and not _is_zombie(pid):
            if time.monotonic() > deadline:
                raise SetupError(f"The supervisor (process {pid}) does not end; see {self.run}.")
            time.sleep(0.1)

    def _ask(self, method: str, *arguments: object) -> Any:
        # A connection of its own for each call: it outlives neither the supervisor nor its successor.
        with xmlrpc.client.ServerProxy("http://localhost/RPC2", transport=_Transport(self.socket)) as proxy:
            return getattr(proxy.supervisor, method)(*arguments)


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def _section(program: Program, logs: Path) -> str:
    pairs = ",".join(f'{name}="{value}"' for name, value in program.environment.items())
    as_user = f"user={program.owner.name}" if accounts.caller().uid == 0 else ""
    values = {
        "name": program.name,
        # Whatever ends the supervisor ends its programs too; else they would hold ports and data with nobody
        # to stop them.
        "command": shlex.join((*DIE_WITH_PARENT, program.stop_signal, "--", *program.command)),
        "directory": program.directory,
        "environment": pairs,
        "priority": program.priority,
        "stop_signal": program.stop_signal,
        "stop_seconds": program.stop_seconds,
        "log": logs / program.name / "output.log",
        "stream": "stderr" if program.writes_own_log else "stdout",
        "other": "stdout_logfile=NONE" if program.writes_own_log else "redirect_stderr=true",
        "user": as_user,
    }
    # The supervisor expands %(…)s, so a percent sign in a value is doubled.
    return PROGRAM.format(**{name: str(value).replace("%", "%%") for name, value in values.items()})
