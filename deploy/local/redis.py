"""Redis as a plain process: its data folder, its configuration, its command."""

import socket
from dataclasses import dataclass
from pathlib import Path

from deploy.local import accounts, binaries
from deploy.local.programs import Program, base_environment, fingerprint

COMMON = Path(__file__).parents[1] / "setup/redis.conf"
# The last line of what is common is the clients' rights; the password belongs to it.
CONFIGURATION = """\
bind 127.0.0.1
port {port}
dir {data}
daemonize no
appendonly {append_only}
{common} >{password}
"""


@dataclass(frozen=True)
class Redis:
    """Say where one Redis server keeps its files and where it listens."""

    data: Path
    port: int
    password: str
    durable: bool = True

    @property
    def owner(self) -> accounts.Account:
        """Return the system user that owns the data."""
        return accounts.account("redis")

    def prepare(self) -> Program:
        """Write the configuration and return the program."""
        accounts.own(self.data, self.owner)
        configuration = self.data / "redis.conf"
        text = self._configuration()
        accounts.write_for(self.owner, configuration, text)
        environment = base_environment(self.data) | {"CONFIGURATION": fingerprint(text)}
        command = (str(binaries.find("redis-server")), str(configuration))
        return Program("redis", command, self.owner, self.data, environment, priority=10)

    def _configuration(self) -> str:
        return CONFIGURATION.format(
            port=self.port,
            password=self.password,
            data=self.data,
            common=COMMON.read_text().rstrip(),
            append_only="yes" if self.durable else "no",
        )

    def is_ready(self) -> bool:
        """Tell whether the server answers to its password."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                answer = connection.makefile("rb")
                return [answer.readline(), answer.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
        except OSError:
            return False
