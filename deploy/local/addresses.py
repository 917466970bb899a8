"""Where one suite listens, and the settings that change it."""

from collections.abc import Mapping

from deploy.local import ports
from deploy.local.errors import SetupError
from deploy.local.settings import Settings

PUBLIC = {"HTTP_PORT": 80, "HTTPS_PORT": 443}
# For a user who may not listen on the well-known ports.
UNPRIVILEGED = {"HTTP_PORT": 8080, "HTTPS_PORT": 8443}
INTERNAL = {
    "USER_SERVICE_PORT": 5001,
    "PRODUCT_SERVICE_PORT": 5002,
    "ORDER_SERVICE_PORT": 5003,
    "NOTIFICATION_SERVICE_PORT": 5004,
    "POSTGRES_PORT": 5432,
    "REDIS_PORT": 6379,
    "RABBITMQ_PORT": 5672,
    "RABBITMQ_MANAGEMENT_PORT": 15672,
    # Between the broker's own processes; away from 4369 and 25672, which another broker would use.
    "RABBITMQ_EPMD_PORT": 14369,
    "RABBITMQ_DISTRIBUTION_PORT": 15673,
}
# Where the services themselves listen: clients find Nginx on their ports, which alone says who a client is.
# Nobody else looks there, so any free ports will do; they are chosen at the first start and then kept.
SERVICES = ("USER", "PRODUCT", "ORDER", "NOTIFICATION")
INNER = tuple(f"{name}_SERVICE_INNER_PORT" for name in SERVICES)
DEVELOPMENT = {"MAIL_PORT": 1080, "MAIL_SMTP_PORT": 1025}


def choose_ports(settings: Settings, kept: Mapping[str, int] | None = None) -> dict[str, int]:
    """Return every port that the suite listens on, by the name of its setting; `kept` is the last choice."""
    defaults = INTERNAL | (DEVELOPMENT if settings.development else {})
    chosen = {name: settings.port(name, default) for name, default in defaults.items()}
    chosen |= {name: _public_port(name, settings.port(name, default)) for name, default in PUBLIC.items()}
    return chosen | _inner_ports(set(chosen.values()), kept or {})


def _inner_ports(others: set[int], kept: Mapping[str, int]) -> dict[str, int]:
    spare = [port for port in ports.free_ports(len(others) + len(INNER)) if port not in others]
    return {
        name: kept[name] if kept.get(name) not in {None, *others} else spare[number]
        for number, name in enumerate(INNER)
    }


def _public_port(name: str, wanted: int) -> int:
    try:
        ports.is_free(wanted, "0.0.0.0")
    except PermissionError:
        if wanted != PUBLIC[name]:
            raise SetupError(f"You may not listen on port {wanted}; set {name} to one above 1023.") from None
        return UNPRIVILEGED[name]
    return wanted


def refuse_taken(chosen: Mapping[str, int], ours: Mapping[str, int]) -> None:
    """Refuse a start on a port that somebody else has, or that two settings name."""
    for name, port in chosen.items():
        twin = next(other for other, number in chosen.items() if number == port)
        if twin != name:
            raise SetupError(f"{twin} and {name} are both {port}; set one of them in .env to another port.")
        host = "0.0.0.0" if name in PUBLIC else "127.0.0.1"
        if port not in ours.values() and not ports.is_free(port, host):
            raise SetupError(f"Port {port} is taken by another program; set {name} in .env to a free one.")


def url(scheme: str, port: int) -> str:
    """Return the address of a port, short where the port is the scheme's own."""
    known = {"http": 80, "https": 443}[scheme] == port
    return f"{scheme}://localhost" if known else f"{scheme}://localhost:{port}"


def urls(chosen: Mapping[str, int]) -> dict[str, str]:
    """Return every address that a person may open."""
    shown = {"shop": url("http", chosen["HTTP_PORT"]), "shop (TLS)": url("https", chosen["HTTPS_PORT"])}
    for service in ("user", "product", "order", "notification"):
        shown[f"{service}-service"] = url("http", chosen[f"{service.upper()}_SERVICE_PORT"])
    shown["RabbitMQ"] = url("http", chosen["RABBITMQ_MANAGEMENT_PORT"])
    return shown | ({"mails": url("http", chosen["MAIL_PORT"])} if "MAIL_PORT" in chosen else {})
