"""PostgreSQL as a plain process: its data folder, its configuration, its command."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local import accounts, binaries
from deploy.local.errors import SetupError
from deploy.local.programs import Program, base_environment, fingerprint

SUPERUSER = "postgres"
# The socket is for the set-up step alone: its folder admits only the server's own user and root.
HOST_RULES = """\
local all postgres trust
host all all 127.0.0.1/32 scram-sha-256
"""
# Sized for the whole suite on a small machine; the roles' connection limits add up to less than the maximum.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "password_encryption": "scram-sha-256",
}


@dataclass(frozen=True)
class Postgres:
    """Say where one PostgreSQL server keeps its files and where it listens."""

    data: Path
    sockets: Path
    port: int
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def owner(self) -> accounts.Account:
        """Return the system user that owns the data."""
        return accounts.account("postgres")

    def prepare(self) -> Program:
        """Make the data folder at the first start, write the configuration, and return the program."""
        accounts.own(self.data, self.owner)
        accounts.own(self.sockets, self.owner)
        version = self.data / "PG_VERSION"
        binary = binaries.postgres_bin(version.read_text().strip() if version.exists() else "")
        if not version.exists():
            self._initialise(binary)
        accounts.write_for(self.owner, self.data / "ecommerce.conf", self._configuration())
        accounts.write_for(self.owner, self.data / "pg_hba.conf", HOST_RULES)
        options = ("-D", str(self.data), "-c", f"config_file={self.data}/ecommerce.conf")
        return Program(
            "postgres",
            (str(binary / "postgres"), *options),
            self.owner,
            self.data,
            base_environment(self.data) | {"CONFIGURATION": fingerprint(self._configuration())},
            stop_signal="INT",
            stop_seconds=30,
            priority=10,
        )

    def _initialise(self, binary: Path) -> None:
        # What a broken first attempt left behind has no PG_VERSION, and initdb refuses it.
        if any(self.data.iterdir()):
            raise SetupError(f"{self.data} holds no PostgreSQL data but other files; move them away.")
        command = [str(binary / "initdb"), "-D", str(self.data), "-U", SUPERUSER, "--encoding=UTF8"]
        command += ["--locale=C.UTF-8", "--auth-local=trust", "--auth-host=reject", "--no-sync"]
        made = accounts.run_as(self.owner, command, cwd=self.data, env=base_environment(self.data))
        if made.returncode != 0:
            raise SetupError(f"PostgreSQL could not make its data folder {self.data}: {made.stderr.strip()}")

    def _configuration(self) -> str:
        place = {"port": str(self.port), "unix_socket_directories": str(self.sockets)}
        settings = {**SETTINGS, **place, **self.settings}
        return "".join(f"{name} = '{value}'\n" for name, value in settings.items())

    def is_ready(self) -> bool:
        """Tell whether the server takes connections."""
        command = [str(binaries.postgres_bin() / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0

    def apply_roles(self, script: Path, settings: Mapping[str, str]) -> None:
        """Make the services' roles and databases, with today's passwords, over the private socket."""
        environment = self._environment() | dict(settings)
        # The script comes by standard input: the server's user may not be able to read the clone.
        done = accounts.run_as(
            self.owner, ["/bin/sh", "-s"], typed=script.read_text(), cwd="/", env=environment
        )
        if done.returncode != 0:
            raise SetupError(f"PostgreSQL refused the set-up: {done.stderr.strip()}")

    def beside(self, command: Sequence[str]) -> Program:
        """Describe `command` as what speaks to the running server as its superuser, over its socket."""
        binary = binaries.postgres_bin((self.data / "PG_VERSION").read_text().strip())
        environment = self._environment()
        environment["PATH"] = f"{binary}:{environment['PATH']}"
        return Program("postgres", tuple(command), self.owner, self.data, environment)

    def _environment(self) -> dict[str, str]:
        where = {"PGHOST": str(self.sockets), "PGPORT": str(self.port), "PGUSER": SUPERUSER}
        return base_environment(self.data) | where
