"""A running suite as its users and operators see it: addresses, settings, and a hand on its processes."""

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SERVICES = {
    "user-service": 5001,
    "product-service": 5002,
    "order-service": 5003,
    "notification-service": 5004,
}

# What `.env` need not name.
DEFAULTS = {
    "ADMIN_USERNAME": "admin",
    "RABBITMQ_DEFAULT_USER": "admin",
    "RABBITMQ_DEFAULT_PASS": "rabbitmq123",
    "RABBITMQ_MANAGEMENT_PORT": "15672",
    "POSTGRES_PORT": "5432",
    "REDIS_PORT": "6379",
    "MAIL_PORT": "1080",
    "HTTPS_PORT": "443",
    "HSTS_SECONDS": "63072000",
    "ORDER_PAYMENT_TIMEOUT": "1800",
}


@dataclass(frozen=True)
class Suite:
    """Where a running suite answers; processes go by the names that the compose file gives them."""

    url: str
    https_url: str
    service_urls: Mapping[str, str]
    mail_url: str
    rabbitmq_url: str
    env: Mapping[str, str]
    logs: Path
    stop: Callable[[str], None] = field(repr=False)
    start: Callable[[str], None] = field(repr=False)
    pause: Callable[[str], None] = field(repr=False)
    resume: Callable[[str], None] = field(repr=False)
    rabbitmqctl: Callable[..., None] = field(repr=False)
    # Runs one more process of a service and gives its address; Compose scales instead, and leaves it out.
    beside: Callable[[str], AbstractContextManager[str]] | None = field(default=None, repr=False)

    @contextmanager
    def without(self, name: str) -> Iterator[None]:
        """Stop one process or server, and start it again whatever happens."""
        self.stop(name)
        try:
            yield
        finally:
            self.start(name)

    @contextmanager
    def silent(self, name: str) -> Iterator[None]:
        """Freeze one process or server: it accepts connections and says nothing."""
        self.pause(name)
        try:
            yield
        finally:
            self.resume(name)


def suite_from_environment() -> Suite:
    """Describe a suite that already runs under Docker Compose at `SHOP_URL`, from its `.env`."""
    env = {**DEFAULTS, **read_env(REPOSITORY / ".env"), **os.environ}
    url = os.environ["SHOP_URL"].rstrip("/")
    return Suite(
        url=url,
        https_url=env.get("SHOP_HTTPS_URL", f"https://127.0.0.1:{env['HTTPS_PORT']}"),
        service_urls={
            name: f"http://127.0.0.1:{env.get(_port(name), port)}" for name, port in SERVICES.items()
        },
        mail_url=env.get("MAIL_URL", f"http://127.0.0.1:{env['MAIL_PORT']}"),
        rabbitmq_url=env.get("RABBITMQ_URL", f"http://127.0.0.1:{env['RABBITMQ_MANAGEMENT_PORT']}"),
        env=env,
        logs=Path(env.get("SHOP_LOGS", REPOSITORY / "logs")),
        stop=lambda name: _compose("stop", name),
        start=lambda name: _compose("start", name),
        pause=lambda name: _compose("pause", name),
        resume=lambda name: _compose("unpause", name),
        rabbitmqctl=lambda *arguments: _compose("exec", "-T", "rabbitmq", "rabbitmqctl", *arguments),
    )


def read_env(path: Path) -> dict[str, str]:
    """Read a file of `NAME=value` lines; a missing one is empty."""
    lines = path.read_text().splitlines() if path.exists() else []
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def _port(service: str) -> str:
    return service.upper().replace("-", "_") + "_PORT"


def _compose(*arguments: str) -> None:
    command = ["docker", "compose", *arguments]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, timeout=120)
