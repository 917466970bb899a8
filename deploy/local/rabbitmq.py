"""RabbitMQ as two plain processes, the broker and its own port mapper (epmd).

The node has a fixed name and its own ports for both, so that it keeps its messages whatever the machine
is called, and never meets another broker of this machine.
"""

import base64
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from deploy.local import accounts, binaries
from deploy.local.errors import SetupError
from deploy.local.programs import Program, base_environment, fingerprint

COMMON = Path(__file__).parents[1] / "setup/rabbitmq.conf"
NODE = "ecommerce@localhost"
CONFIGURATION = """\
listeners.tcp.local = 127.0.0.1:{port}
management.tcp.ip = 127.0.0.1
management.tcp.port = {management_port}
default_user = {user}
default_pass = {password}
log.console = true
log.file = false
"""
# No spare schedulers beside the cores in use, and no port open to other machines.
ERLANG = "+S 2:2 +SDcpu 1:1 +SDio 4 +A 4 -kernel inet_dist_use_interface {127,0,0,1}"


@dataclass(frozen=True)
class RabbitMQ:
    """Say where one broker keeps its files and where it listens."""

    data: Path
    port: int
    management_port: int
    epmd_port: int
    distribution_port: int
    user: str
    password: str

    @property
    def owner(self) -> accounts.Account:
        """Return the system user that owns the data."""
        return accounts.account("rabbitmq")

    @property
    def management_url(self) -> str:
        """Return the address of the management API and page."""
        return f"http://127.0.0.1:{self.management_port}"

    def prepare(self) -> tuple[Program, Program]:
        """Write the configuration and return the port mapper and the broker, to be started in this order."""
        accounts.own(self.data, self.owner)
        accounts.write_for(self.owner, self.data / "rabbitmq.conf", self._configuration())
        accounts.write_for(self.owner, self.data / "enabled_plugins", "[rabbitmq_management].\n")
        epmd = (str(binaries.find("epmd")), "-port", str(self.epmd_port), "-address", "127.0.0.1")
        server = (str(binaries.rabbitmq_bin() / "rabbitmq-server"),)
        environment = self.environment()
        # Neither the name nor the password of the administrator: they change without a restart.
        content = fingerprint(COMMON.read_text(), CONFIGURATION, str(self.port), str(self.management_port))
        broker = environment | {"CONFIGURATION": content}
        return (
            Program("rabbitmq-epmd", epmd, self.owner, self.data, environment, priority=5),
            Program("rabbitmq", server, self.owner, self.data, broker, stop_seconds=60, priority=10),
        )

    def _configuration(self) -> str:
        own = CONFIGURATION.format(
            port=self.port, management_port=self.management_port, user=self.user, password=self.password
        )
        return COMMON.read_text() + own

    def environment(self) -> dict[str, str]:
        """Return what the broker and its command line tools need to find each other, and nobody else."""
        return base_environment(self.data) | {
            "RABBITMQ_NODENAME": NODE,
            "RABBITMQ_MNESIA_BASE": str(self.data / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.data),
            "RABBITMQ_CONFIG_FILE": str(self.data / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(self.data / "none"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.data / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.data / "enabled_plugins"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self.data / "config"),
            "RABBITMQ_FEATURE_FLAGS_FILE": str(self.data / "feature_flags"),
            "RABBITMQ_DIST_PORT": str(self.distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG,
            # Erlang reserves memory for as many files and sockets as it may open.
            "ERL_MAX_PORTS": "8192",
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    def port_mapper_is_ready(self) -> bool:
        """Tell whether the port mapper answers."""
        command = [str(binaries.find("epmd")), "-port", str(self.epmd_port), "-names"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def is_ready(self) -> bool:
        """Tell whether the management API answers, to whatever password."""
        return self._status() in (200, 401)

    def admits_administrator(self) -> bool:
        """Tell whether the administrator's present password is the configured one."""
        return self._status() == 200

    def _status(self) -> int:
        login = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        address = self.management_url + "/api/whoami"
        request = urllib.request.Request(address, headers={"Authorization": f"Basic {login}"})
        try:
            with urllib.request.urlopen(request, timeout=2) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def set_administrator(self) -> None:
        """Give the administrator the configured name and password on a broker that was made with others."""
        known = self.user in self._control("list_users", "--silent").split()
        # By standard input, for arguments show in the list of processes.
        self._control("change_password" if known else "add_user", self.user, typed=self.password + "\n")
        self._control("set_user_tags", self.user, "administrator")
        self._control("set_permissions", "-p", "/", self.user, ".*", ".*", ".*")

    def _control(self, *arguments: str, typed: str = "") -> str:
        command = [str(binaries.rabbitmq_bin() / "rabbitmqctl"), *arguments]
        done = accounts.run_as(self.owner, command, typed=typed, cwd=self.data, env=self.environment())
        if done.returncode != 0:
            raise SetupError(f"RabbitMQ refused {arguments[0]}: {done.stderr.strip()}")
        return done.stdout
