"""What the lab breaks: a suite of its own, with a bank and a mail sink that are not part of it."""

import secrets
import shutil
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.local.addresses import DEVELOPMENT, INTERNAL, PUBLIC
from deploy.local.ports import free_ports
from deploy.local.settings import read_values

REPOSITORY = Path(__file__).resolve().parents[2]
# Folders of a stage lie in the clone: Docker may mount them wherever it may mount the clone.
STAGES = REPOSITORY / "build/faults"
NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv", ".env", "data", "logs", "build", "__pycache__", ".*_cache"
)

SERVICES = ("user-service", "product-service", "order-service", "notification-service")
WORKERS = (*(f"{service}-worker" for service in SERVICES), "notification-celery")
SERVERS = ("postgres", "redis", "rabbitmq")
COMPONENTS = ("nginx", *SERVICES, *WORKERS, *SERVERS)
FAULTS = ("kill", "stop", "pause", "cut", "slow")

# So short that orders expire during the faults, and the last of them soon after: while orders expire, the
# suite is not at rest.
PAYMENT_TIMEOUT = 8
SLOWNESS = 0.5
SECONDS_TO_RETURN = 60


class StageError(Exception):
    """The stage itself does not do what the lab needs."""


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it printed."""

    status: int
    output: str


@dataclass
class Blow:
    """One fault of one component: entering strikes, leaving heals."""

    strike: Callable[[], object]
    heal: Callable[[], object]
    # What the lab does to heal it that the suite is to do by itself.
    by_hand: str = ""

    def __enter__(self) -> Self:
        self.strike()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.heal()


@dataclass
class Stage(ABC):
    """A running suite of the lab's own, its judges' addresses, and the means to strike it."""

    url: str
    env: Mapping[str, str]
    bank_url: str
    mail_sink_url: str
    folder: Path
    faults: Sequence[str]
    components: Sequence[str] = COMPONENTS
    # What had to be done otherwise than docs/faults.md says.
    notes: list[str] = field(default_factory=list)
    _lives: dict[str, str] = field(default_factory=dict, repr=False)
    _restarts: Counter[str] = field(default_factory=Counter, repr=False)

    @property
    def databases(self) -> dict[str, str]:
        """Return the way to each service's database as superuser, by the service's short name."""
        login = f"user=postgres password={self.env['POSTGRES_PASSWORD']} connect_timeout=3"
        place = f"host=127.0.0.1 port={self.env['POSTGRES_PORT']}"
        names = (service.removesuffix("-service") for service in SERVICES)
        return {name: f"{place} dbname={name}_db {login}" for name in names}

    @property
    def rabbitmq_url(self) -> str:
        """Return the address of RabbitMQ's management API."""
        return f"http://127.0.0.1:{self.env['RABBITMQ_MANAGEMENT_PORT']}"

    @abstractmethod
    def blow(self, component: str, fault: str) -> Blow:
        """Prepare a fault, so that its strike comes at once when the returned blow is entered."""

    @abstractmethod
    def lives(self) -> dict[str, str]:
        """Name each component's present run: a restart gives it another; empty while it does not run."""

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Name what the suite runs on."""

    @abstractmethod
    def run_beside(self, service: str, *words: str) -> Ran:
        """Run a command as a process of that service would run."""

    def begin_watch(self) -> None:
        """Count restarts from now on."""
        self._lives = self.lives()

    def restarts(self) -> dict[str, int]:
        """Count, since the watch began, how often each component restarted or ended but by the lab."""
        now = self.lives()
        self._restarts.update(name for name, known in self._lives.items() if now[name] != known)
        self._lives = now
        return {name: self._restarts[name] for name in now}

    def await_return(self, component: str) -> None:
        """Wait until a component that the lab ended runs again; that restart is the lab's own."""
        before = self._lives.get(component, "")
        deadline = time.monotonic() + SECONDS_TO_RETURN
        while (life := self.lives()[component]) in ("", before):
            if time.monotonic() > deadline:
                raise StageError(f"{component} did not come back within {SECONDS_TO_RETURN} s.")
            time.sleep(0.05)
        self._lives[component] = life

    @abstractmethod
    def close(self) -> None:
        """End everything that was started, and delete it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def copy_repository(name: str) -> Path:
    """Copy the working tree, as it is now, to a folder of its own."""
    folder = STAGES / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(REPOSITORY, folder, ignore=NOT_COPIED, symlinks=True)
    return folder


def write_settings(folder: Path, further_ports: Iterable[str], **changes: str) -> dict[str, str]:
    """Write and return the stage's .env: the example's values, ports that are free, and `changes`."""
    names = [*PUBLIC, *INTERNAL, *DEVELOPMENT, *further_ports]
    ports = dict(zip(names, map(str, free_ports(len(names))), strict=True))
    lab = {
        "APP_ENV": "development",
        "ORDER_PAYMENT_TIMEOUT": str(PAYMENT_TIMEOUT),
        "PAYMENT_HTTP_KEY": secrets.token_hex(16),
        "PAYMENT_HTTP_WEBHOOK_SECRET": secrets.token_hex(16),
    }
    example = read_values(folder / ".env.example")
    unlimited = {name: "0" for name in example if name.startswith("LIMIT_")}
    values = example | unlimited | lab | ports
    values |= {name: value.format(**ports) for name, value in changes.items()}
    env = folder / ".env"
    env.touch(mode=0o600)
    env.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    return values


def bank_command(env: Mapping[str, str], shop: str, *, host: str, port: int, ledger: str) -> list[str]:
    """Return the bank's command line for a Python; it reports to the shop's public address."""
    listen = ["--host", host, "--port", str(port), "--ledger", ledger]
    secrets_shared = [
        "--key",
        env["PAYMENT_HTTP_KEY"],
        "--webhook-secret",
        env["PAYMENT_HTTP_WEBHOOK_SECRET"],
    ]
    report = ["--webhook-url", f"{shop}/api/v1/payments/webhooks/http"]
    return ["-m", "tests.faults.bank", *listen, *secrets_shared, *report]


def sink_command(*, host: str, smtp_port: int, http_port: int, folder: str) -> list[str]:
    """Return the mail sink's command line for a Python."""
    listen = ["--host", host, "--smtp-port", str(smtp_port), "--http-port", str(http_port)]
    return ["-m", "tests.faults.mail_sink", *listen, "--folder", folder]
