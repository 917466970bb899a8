"""One whole suite: what it consists of, and in which order it starts."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from deploy.local import accounts, addresses, release
from deploy.local.errors import SetupError
from deploy.local.health import Check, answers, says_that_it_lives, wait_until_well
from deploy.local.layout import Layout
from deploy.local.nginx import SETTINGS, Nginx, Upstream
from deploy.local.ports import is_free
from deploy.local.postgres import Postgres
from deploy.local.programs import Program
from deploy.local.rabbitmq import RabbitMQ
from deploy.local.redis import Redis
from deploy.local.services import SERVICES, Place, beside, health_question, mail_catcher, service_programs
from deploy.local.settings import Settings
from deploy.local.supervisor import Supervisor
from deploy.local.venv import ready_venv
from deploy.setup.checks import Refused, check_settings

LOCAL_SHOP = "http://localhost"


@dataclass(frozen=True)
class Suite:
    """One instance: its folders and its settings."""

    layout: Layout
    settings: Settings

    @property
    def supervisor(self) -> Supervisor:
        """Return the supervisor of its processes."""
        return Supervisor(self.layout.run, self.layout.sockets / "supervisor.sock")

    @cached_property
    def ports(self) -> Mapping[str, int]:
        """Return every port that it listens on, by the name of its setting."""
        kept = self._recorded_ports()
        if not self.supervisor.is_running():
            kept = {name: port for name, port in kept.items() if is_free(port)}
        return addresses.choose_ports(self.settings, kept)

    @cached_property
    def postgres(self) -> Postgres:
        """Return the database server."""
        return self.postgres_at(self.ports["POSTGRES_PORT"])

    def postgres_at(self, port: int) -> Postgres:
        """Return the database server that listens there."""
        return Postgres(self.layout.data / "postgres", self.layout.sockets / "postgres", port)

    @cached_property
    def rabbitmq(self) -> RabbitMQ:
        """Return the broker."""
        return RabbitMQ(
            self.layout.data / "rabbitmq",
            self.ports["RABBITMQ_PORT"],
            self.ports["RABBITMQ_MANAGEMENT_PORT"],
            self.ports["RABBITMQ_EPMD_PORT"],
            self.ports["RABBITMQ_DISTRIBUTION_PORT"],
            self.settings["RABBITMQ_DEFAULT_USER"],
            self.settings["RABBITMQ_DEFAULT_PASS"],
        )

    def up(self) -> None:
        """Start what is not running and anew what has changed; return when all is well."""
        self._check_settings()
        addresses.refuse_taken(self.ports, self.known_ports())
        accounts.create_services_account()
        self.layout.prepare()
        place = self._place()
        servers = self._prepare_servers(place)
        services = self._prepare_services(place)
        self._launch(place.venv, [*servers, *services])
        self.supervisor.start(program.name for program in servers)
        self._set_up_roles()
        self.supervisor.start(program.name for program in services)
        self._set_up_broker(place.venv)
        wait_until_well(self._checks(services), self.supervisor, self.layout.logs)
        release.delete_others(place.code)

    def _check_settings(self) -> None:
        try:
            check_settings(self.settings.all())
        except Refused as refusal:
            raise SetupError(str(refusal)) from None

    def known_ports(self) -> dict[str, int]:
        """Return the ports that our own processes have while they run."""
        return self._recorded_ports() if self.supervisor.is_running() else {}

    def _recorded_ports(self) -> dict[str, int]:
        record = self.layout.run / "ports.json"
        return dict(json.loads(record.read_text())) if record.exists() else {}

    def beside(self, process: str, command: Sequence[str]) -> Program:
        """Describe `command` as what runs next to a running service's process."""
        ports = self.known_ports()
        if not ports:
            raise SetupError("The suite does not run; start it with make up.")
        if process == "postgres":
            return self.postgres_at(ports["POSTGRES_PORT"]).beside(command)
        code, venv = self.supervisor.origin(f"{SERVICES[0]}-service")
        place = Place(self.layout, ports, code, venv, self._public_url(ports))
        return beside(service_programs(self.settings, place), process, command)

    def _place(self) -> Place:
        venv = ready_venv(self.layout.source, self.layout.source / "deploy/local/requirements.txt")
        code = release.copy_code(self.layout.source, self.layout.run / "code")
        return Place(self.layout, self.ports, code, venv, self._public_url(self.ports))

    def _public_url(self, ports: Mapping[str, int]) -> str:
        public = self.settings.get("PUBLIC_URL", LOCAL_SHOP)
        return addresses.url("http", ports["HTTP_PORT"]) if public == LOCAL_SHOP else public

    def _prepare_servers(self, place: Place) -> list[Program]:
        redis = Redis(self.layout.data / "redis", self.ports["REDIS_PORT"], self.settings["REDIS_PASSWORD"])
        nginx = self._nginx(place)
        self._make_certificate(nginx.tls, place)
        self.layout.folder("mail", accounts.account(accounts.SERVICES))
        servers = [self.postgres.prepare(), redis.prepare(), *self.rabbitmq.prepare(), *nginx.prepare()]
        return servers + mail_catcher(place)

    def _nginx(self, place: Place) -> Nginx:
        logs = self.layout.log_folder("nginx", accounts.caller())
        folders = self.layout.data / "nginx", logs, self.layout.data / "tls"
        public = self.ports["HTTP_PORT"], self.ports["HTTPS_PORT"]
        upstreams = {name: self._upstream(f"{name.upper()}_SERVICE") for name in SERVICES}
        return Nginx(place.code / "nginx", *folders, *public, upstreams, self.settings.some(SETTINGS))

    def _upstream(self, service: str) -> Upstream:
        return Upstream(self.ports[f"{service}_INNER_PORT"], self.ports[f"{service}_PORT"])

    def _make_certificate(self, folder: Path, place: Place) -> None:
        script = self.layout.source / "deploy/setup/certificate.py"
        accounts.own(folder, accounts.caller())
        _run([str(place.venv / "bin/python"), str(script), str(folder), place.public_url], {})

    def _prepare_services(self, place: Place) -> list[Program]:
        owner = accounts.account(accounts.SERVICES)
        for name in ("sms", "tmp"):
            self.layout.folder(name, owner)
        for name in SERVICES:
            self.layout.log_folder(f"{name}-service", owner)
        return service_programs(self.settings, place)

    def _launch(self, venv: Path, programs: list[Program]) -> None:
        for program in programs:
            (self.layout.logs / program.name).mkdir(exist_ok=True)
        self.layout.link()
        self.supervisor.write(programs, self.layout.logs)
        self.supervisor.launch(venv)
        (self.layout.run / "ports.json").write_text(json.dumps(self.ports))

    def _set_up_roles(self) -> None:
        wait_until_well({"postgres": self.postgres.is_ready}, self.supervisor, self.layout.logs)
        names = ("POSTGRES_PASSWORD", *(f"{name.upper()}_DB_PASSWORD" for name in SERVICES))
        script = self.layout.source / "database/init-scripts/10-roles-and-databases.sh"
        self.postgres.apply_roles(script, {name: self.settings[name] for name in names})

    def _set_up_broker(self, venv: Path) -> None:
        wait_until_well({"rabbitmq": self.rabbitmq.is_ready}, self.supervisor, self.layout.logs)
        if not self.rabbitmq.admits_administrator():
            self.rabbitmq.set_administrator()
        names = [f"{name.upper()}_AMQP_PASSWORD" for name in SERVICES]
        names += ["RABBITMQ_DEFAULT_USER", "RABBITMQ_DEFAULT_PASS"]
        port = {"RABBITMQ_HOST": "127.0.0.1", "RABBITMQ_MANAGEMENT_PORT": str(self.rabbitmq.management_port)}
        script = self.layout.source / "deploy/setup/rabbitmq.py"
        _run([str(venv / "bin/python"), str(script)], port | {name: self.settings[name] for name in names})

    def _checks(self, services: list[Program]) -> dict[str, Check]:
        """Return what must hold before the suite counts as started."""
        local = "http://127.0.0.1:{}{}"
        checks = {
            program.name: says_that_it_lives(program, question)
            if (question := health_question(program.name))
            else answers(local.format(program.environment["PORT"], "/health"))
            for program in services
        }
        checks["nginx"] = answers(local.format(self.ports["HTTP_PORT"], "/health"))
        if "MAIL_PORT" in self.ports:
            checks["maildev"] = answers(local.format(self.ports["MAIL_PORT"], "/healthz"))
        return checks


def _run(command: list[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SetupError((done.stderr or done.stdout).strip())
