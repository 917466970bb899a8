"""The processes of the four services: the same commands as in Compose, with the same settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deploy.local import accounts
from deploy.local.errors import SetupError
from deploy.local.layout import Layout
from deploy.local.programs import Program, base_environment
from deploy.local.settings import Settings

SERVICES = ("user", "product", "order", "notification")
CELERY_COMMAND = (
    "celery", "-A", "notification_service.celery_app", "worker", "--concurrency", "2",
    "--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat",
    "-Q", "notification.tasks",
)  # fmt: skip
CELERY = "notification-celery"
MAIL_CATCHER = "maildev"
# What each service reads from .env under the same name; nobody gets a secret that is not theirs.
COMMON = ("APP_ENV", "CURRENCY", "LIMIT_WRITE_PER_USER", "LIMIT_READ_PER_ADDRESS")
OWN = {
    "user": (
        "LIMIT_LOGIN_PER_ACCOUNT", "LIMIT_LOGIN_PER_ADDRESS", "LIMIT_REGISTER_PER_ADDRESS",
        "ADMIN_USERNAME", "ADMIN_EMAIL", "ADMIN_PASSWORD", "KEY_ENCRYPTION_SECRET",
        "ORDER_USER_KEY", "NOTIFICATION_USER_KEY",
    ),
    "product": ("ORDER_PRODUCT_KEY",),
    "order": (
        "ORDER_PRODUCT_KEY", "ORDER_USER_KEY", "ORDER_NOTIFICATION_KEY",
        "ORDER_PAYMENT_TIMEOUT", "PAYMENT_TEST_METHODS", "PAYMENT_SANDBOX_WEBHOOK_SECRET",
        "PAYMENT_HTTP_URL", "PAYMENT_HTTP_KEY", "PAYMENT_HTTP_WEBHOOK_SECRET",
    ),
    "notification": (
        "NOTIFICATION_USER_KEY", "ORDER_NOTIFICATION_KEY",
        "SMTP_USER", "SMTP_PASSWORD", "SMTP_TLS", "MAIL_FROM", "SMS_PROVIDER",
        "ALIYUN_ACCESS_KEY_ID", "ALIYUN_ACCESS_KEY_SECRET", "ALIYUN_SMS_SIGN_NAME",
        "ALIYUN_SMS_TEMPLATE_CODE", "VAPID_PRIVATE_KEY", "VAPID_SUBJECT",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Say where the services run: folders, ports, code and interpreter."""

    layout: Layout
    ports: Mapping[str, int]
    code: Path
    venv: Path
    public_url: str


def environment(service: str, settings: Settings, place: Place) -> dict[str, str]:
    """Return the environment of a service's processes."""
    upper, ports = service.upper(), place.ports
    addresses = {
        f"{name}_SERVICE_URL": f"http://127.0.0.1:{ports[f'{name}_SERVICE_INNER_PORT']}"
        for name in ("USER", "PRODUCT", "NOTIFICATION")
    }
    own = {
        "PATH": f"{place.venv}/bin:/usr/bin:/bin",
        "PYTHONPATH": str(place.code / "chassis"),
        "PYTHONUNBUFFERED": "1",
        # Flask would look for a .env in every folder above, where all secrets of the suite are.
        "FLASK_SKIP_DOTENV": "1",
        # No time-out of a connection counts while its name is looked up.
        "RES_OPTIONS": "timeout:1 attempts:1",
        "TMPDIR": str(place.layout.data / "tmp"),
        "BIND_HOST": "127.0.0.1",
        "PORT": str(ports[f"{upper}_SERVICE_INNER_PORT"]),
        "LOG_DIR": str(place.layout.logs / f"{service}-service"),
        "DB_HOST": "127.0.0.1",
        "DB_PORT": str(ports["POSTGRES_PORT"]),
        "DB_NAME": f"{service}_db",
        "DB_USER": f"{service}_service",
        "DB_PASSWORD": settings[f"{upper}_DB_PASSWORD"],
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": str(ports["REDIS_PORT"]),
        "REDIS_PASSWORD": settings["REDIS_PASSWORD"],
        "AMQP_HOST": "127.0.0.1",
        "AMQP_PORT": str(ports["RABBITMQ_PORT"]),
        "AMQP_USER": f"{service}_service",
        "AMQP_PASSWORD": settings[f"{upper}_AMQP_PASSWORD"],
        "PUBLIC_URL": place.public_url,
    }
    if service == "notification":
        own |= mail_server(settings, ports) | {"SMS_DIR": str(place.layout.data / "sms")}
    named = settings.some((*COMMON, *OWN[service]))
    return base_environment(place.code) | named | addresses | own


def mail_server(settings: Settings, ports: Mapping[str, int]) -> dict[str, str]:
    """Return where mails go: to the mail catcher, unless .env names another server."""
    host = settings.get("SMTP_HOST", MAIL_CATCHER)
    if host == MAIL_CATCHER and "MAIL_SMTP_PORT" in ports:
        return {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(ports["MAIL_SMTP_PORT"])}
    return {"SMTP_HOST": host, "SMTP_PORT": str(settings.port("SMTP_PORT", 25))}


def commands(service: str) -> dict[str, tuple[str, ...]]:
    """Return each process of a service with its command."""
    roles: dict[str, tuple[str, ...]] = {
        f"{service}-service": ("flask", "serve"),
        f"{service}-service-worker": ("flask", "worker"),
    }
    return roles | ({CELERY: CELERY_COMMAND} if service == "notification" else {})


def health_question(process: str) -> tuple[str, ...]:
    """Return what Python is to run to learn of a process's health; nothing for one that answers HTTP."""
    if process == CELERY:
        return ("notification_service/celery_health.py",)
    return ("-m", "chassis.heartbeats") if process.endswith("-worker") else ()


def stop_seconds(process: str) -> int:
    """Return how long a process may take to finish what it has begun; a mail takes longer than a request."""
    return 60 if process == CELERY else 30


def service_of(process: str) -> str:
    """Return the service that a process belongs to, whose `app.log` it writes."""
    owners = {name: f"{service}-service" for service in SERVICES for name in commands(service)}
    return owners.get(process, process)


def mail_catcher(place: Place) -> list[Program]:
    """Return the mail catcher, in development."""
    if "MAIL_PORT" not in place.ports:
        return []
    folder, owner = place.layout.data / "mail", accounts.account(accounts.SERVICES)
    script = str(place.code / "deploy/local/mailcatcher.py")
    ports = ("--smtp-port", str(place.ports["MAIL_SMTP_PORT"]), "--http-port", str(place.ports["MAIL_PORT"]))
    command = (f"{place.venv}/bin/python", script, "--folder", str(folder), *ports)
    return [Program(MAIL_CATCHER, command, owner, folder, base_environment(folder), priority=20)]


def service_programs(settings: Settings, place: Place) -> list[Program]:
    """Return each service, each service's worker, and Celery."""
    owner = accounts.account(accounts.SERVICES)
    return [
        Program(
            name,
            (f"{place.venv}/bin/{command}", *arguments),
            owner,
            place.code / f"{service}-service",
            environment(service, settings, place),
            stop_seconds=stop_seconds(name),
            writes_own_log=True,
        )
        for service in SERVICES
        for name, (command, *arguments) in commands(service).items()
    ]


def beside(programs: Sequence[Program], process: str, command: Sequence[str]) -> Program:
    """Describe `command` with the user, the folder and the settings of one of these processes."""
    for program in programs:
        if program.name == process:
            return replace(program, command=tuple(command))
    # The database server is none of them, but takes commands too.
    names = ", ".join(("postgres", *(program.name for program in programs)))
    raise SetupError(f"There is no service {process}; there are {names}.")
