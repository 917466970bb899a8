"""What a stage of containers has beside docker-compose.yml: names of its own, the judges, and the wires."""

from collections.abc import Mapping
from typing import Any

from tests.faults.proxy import Wire
from tests.faults.stage import SERVICES, WORKERS, bank_command, sink_command

PROCESSES = (*SERVICES, *WORKERS)
BANK_PORT, SMTP_PORT, MAILS_PORT, CONTROL_PORT, FIRST_WIRE = 8090, 1025, 1080, 9000, 10000
PORTS = {"postgres": 5432, "redis": 6379, "rabbitmq": 5672, "nginx": 80}
PORTS |= {service: number for number, service in enumerate(SERVICES, 5001)}
PORTS |= {"bank": BANK_PORT, "mail-sink": SMTP_PORT}
# The settings by which a process finds a server.
ADDRESSES: dict[str, tuple[str, ...]] = {
    "postgres": ("DB_HOST", "DB_PORT"),
    "redis": ("REDIS_HOST", "REDIS_PORT"),
    "rabbitmq": ("AMQP_HOST", "AMQP_PORT"),
    "user-service": ("USER_SERVICE_URL",),
    "product-service": ("PRODUCT_SERVICE_URL",),
    "mail-sink": ("SMTP_HOST", "SMTP_PORT"),
    "bank": ("PAYMENT_HTTP_URL",),
}
DRIVER = "driver"
PYTHON = "python:3.13-slim"


def lay_wires() -> list[Wire]:
    """Lay a wire for every client and server that talk to each other."""
    pairs = [(client, server) for client in PROCESSES for server in servers_of(client)]
    pairs += [("nginx", service) for service in SERVICES]
    pairs += [(DRIVER, "nginx"), ("bank", "nginx")]
    return [
        Wire(client, server, server, PORTS[server], port)
        for port, (client, server) in enumerate(pairs, FIRST_WIRE)
    ]


def servers_of(process: str) -> list[str]:
    """List whom a process of the suite calls."""
    servers = ["postgres", "redis", "rabbitmq", "user-service"]
    if process.startswith("order-service"):
        servers += ["product-service", "bank"]
    if process == "notification-celery":
        servers.append("mail-sink")
    return servers


def make_override(project: str, env: Mapping[str, str], wires: list[Wire]) -> dict[str, Any]:
    """Return the Compose file that stands over the suite's own; without wires all talk directly."""
    services: dict[str, Any] = {service: {"image": f"{project}/{service}"} for service in SERVICES}
    services |= {worker: {"image": f"{project}/{service_of(worker)}"} for worker in WORKERS}
    services |= {name: {"image": f"{project}/user-service"} for name in ("prepare", "rabbitmq-setup")}
    # Mails go to the sink.
    services["maildev"] = {"profiles": ["not-in-the-lab"]}
    services |= make_judges(env, wires)
    for wire in wires:
        if wire.client in PROCESSES:
            services[wire.client].setdefault("environment", {}).update(address(wire))
    if wires:
        services["wires"] = make_proxy(env, wires)
    return {"networks": {"default": {"name": project}}, "services": services}


def service_of(worker: str) -> str:
    """Name the service whose image a worker runs."""
    return "notification-service" if worker == "notification-celery" else worker.removesuffix("-worker")


def address(wire: Wire) -> dict[str, str]:
    """Return the settings that lead a wire's client to the wire."""
    names = ADDRESSES[wire.server]
    if len(names) == 1:
        return {names[0]: f"http://wires:{wire.port}"}
    return {names[0]: "wires", names[1]: str(wire.port)}


def make_judges(env: Mapping[str, str], wires: list[Wire]) -> dict[str, Any]:
    """Describe the bank and the mail sink."""
    shop = next((f"http://wires:{wire.port}" for wire in wires if wire.client == "bank"), "http://nginx")
    bank = bank_command(env, shop, host="0.0.0.0", port=BANK_PORT, ledger="/books/ledger.jsonl")
    sink = sink_command(host="0.0.0.0", smtp_port=SMTP_PORT, http_port=MAILS_PORT, folder="/books")
    return {
        "bank": container(bank, [f"127.0.0.1:{env['LAB_BANK_PORT']}:{BANK_PORT}"]),
        "mail-sink": container(sink, [f"127.0.0.1:{env['LAB_MAILS_PORT']}:{MAILS_PORT}"]),
    }


def make_proxy(env: Mapping[str, str], wires: list[Wire]) -> dict[str, Any]:
    """Describe the proxy that holds the wires."""
    command = ["-m", "tests.faults.proxy", "--wires", "/lab/wires.json", "--control", str(CONTROL_PORT)]
    way_in = next(wire.port for wire in wires if wire.client == DRIVER)
    published = {"LAB_CONTROL_PORT": CONTROL_PORT, "LAB_WAY_IN_PORT": way_in}
    return container(command, [f"127.0.0.1:{env[name]}:{port}" for name, port in published.items()])


def container(command: list[str], ports: list[str]) -> dict[str, Any]:
    """Describe a container that runs one of the lab's own modules."""
    return {
        "image": PYTHON,
        "command": ["python", *command],
        "init": True,
        "working_dir": "/lab",
        "volumes": ["./tests/faults:/lab/tests/faults:ro", "./wires.json:/lab/wires.json:ro"],
        "environment": {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        "tmpfs": ["/books"],
        "ports": ports,
    }
