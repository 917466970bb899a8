"""Bring a RabbitMQ to the state that topology.json names: users, permissions, exchange, queues, policies.

Every call states what shall be, so it runs at each start, and a changed password counts from then on.
It speaks to the management API with the standard library alone and uses what RabbitMQ 3.10, 3.12 and 4
share.

    RABBITMQ_HOST=127.0.0.1 RABBITMQ_MANAGEMENT_PORT=15672 RABBITMQ_DEFAULT_USER=admin \\
    RABBITMQ_DEFAULT_PASS=… USER_AMQP_PASSWORD=… (and so on) \\
    python rabbitmq.py [--host H] [--port P] [--wait SECONDS]
"""

import argparse
import base64
import http.client
import json
import os
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

TOPOLOGY = Path(__file__).with_name("topology.json")
# Users of ours carry this tag, so that one whose name left the settings is found and deleted.
TAG = "ecommerce"
# A message that crashed its consumer this often is set aside; failures that are caught are counted elsewhere.
DELIVERY_LIMIT = 100
# Looking at a dead letter counts as a delivery: RabbitMQ 4 would by default delete it at the 21st look.
DEAD_LETTER_DELIVERY_LIMIT = 1_000_000
PATIENCE_WITH_REFUSAL = 10
UNREACHABLE = (OSError, http.client.HTTPException)


class BrokerError(Exception):
    """The broker does not answer, or refuses a step."""


@dataclass(frozen=True)
class Management:
    """Speak to the management API of one broker."""

    host: str
    port: int
    user: str
    password: str

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Send one request and return the status and the decoded answer."""
        login = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection(self.host, self.port, timeout=10)
        try:
            connection.request(method, "/api/" + path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        return answer.status, _decode(text)

    def get(self, path: str) -> Any:
        """Return what is at `path`."""
        return self._demand("GET", path)

    def put(self, path: str, body: Any) -> None:
        """Make what is at `path` equal to `body`."""
        self._demand("PUT", path, body)

    def post(self, path: str, body: Any) -> None:
        """Add `body` at `path`."""
        self._demand("POST", path, body)

    def delete(self, path: str) -> None:
        """Delete what is at `path`, if it is there."""
        self._demand("DELETE", path, absent_is_fine=True)

    def _demand(self, method: str, path: str, body: Any = None, *, absent_is_fine: bool = False) -> Any:
        status, answer = self.call(method, path, body)
        if status >= 400 and not (status == 404 and absent_is_fine):
            reason = answer.get("reason", "") if isinstance(answer, dict) else ""
            raise BrokerError(f"RabbitMQ answered {status} to {method} {path}: {reason}")
        return answer

    def wait(self, seconds: float) -> None:
        """Return once the broker answers as an administrator's page does."""
        started = time.monotonic()
        deadline = started + seconds
        while (status := self._status()) != 200:
            if status == 401:
                # A refused login does not get better; a broker that is still starting gets this long.
                deadline = min(deadline, started + PATIENCE_WITH_REFUSAL)
            if time.monotonic() > deadline:
                raise BrokerError(self._complaint(status))
            time.sleep(0.5)

    def _status(self) -> int:
        try:
            return self.call("GET", "overview")[0]
        except UNREACHABLE:
            return 0

    def _complaint(self, status: int) -> str:
        if status == 401:
            return f"RabbitMQ refuses RABBITMQ_DEFAULT_USER ({self.user}) with RABBITMQ_DEFAULT_PASS."
        last = f"its last status was {status}" if status else "nothing listens there"
        return f"RabbitMQ's management API at {self.host}:{self.port} is not ready: {last}."


def _decode(text: bytes) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError:
        return None


def password_names(topology: Path = TOPOLOGY) -> list[str]:
    """Name the settings that hold the users' passwords."""
    users = json.loads(topology.read_text(encoding="utf-8"))["users"]
    return [user["password_from"] for user in users.values()]


def apply_topology(management: Management, passwords: Mapping[str, str], topology: Path = TOPOLOGY) -> None:
    """Make the broker equal to the topology; `passwords` holds each one under its `password_from`."""
    wanted = json.loads(topology.read_text(encoding="utf-8"))
    if missing := [name for name in password_names(topology) if not passwords.get(name)]:
        raise BrokerError("These settings are missing: " + ", ".join(missing))
    vhost = quote(wanted["vhost"], safe="")
    _apply_exchange(management, vhost, wanted["exchange"])
    for name, queue in wanted["queues"].items():
        _apply_queue(management, vhost, wanted["exchange"]["name"], name, queue["binding"])
    _apply_administrator(management, vhost)
    for name, user in wanted["users"].items():
        _apply_user(management, vhost, name, user, passwords[user["password_from"]])
    _delete_others(management, {management.user, *wanted["users"]})


def _apply_exchange(management: Management, vhost: str, exchange: Mapping[str, str]) -> None:
    management.put(f"exchanges/{vhost}/{exchange['name']}", {"type": exchange["type"], "durable": True})


def _apply_queue(management: Management, vhost: str, exchange: str, name: str, binding: str | None) -> None:
    """Make a queue and its dead letters; policies come first, so that no message meets a queue without."""
    dead = f"{name}.dead"
    # An operator puts a dead letter back by rejecting it there: the broker itself moves it, so none is lost.
    _apply_policy(management, vhost, dead, _moving_to(name, DEAD_LETTER_DELIVERY_LIMIT))
    _apply_policy(management, vhost, name, _moving_to(dead, DELIVERY_LIMIT))
    for queue in (dead, name):
        body = {"durable": True, "arguments": {"x-queue-type": "quorum"}}
        management.put(f"queues/{vhost}/{queue}", body)
    if binding is not None:
        management.post(f"bindings/{vhost}/e/{exchange}/q/{name}", {"routing_key": binding})


def _moving_to(queue: str, delivery_limit: int) -> dict[str, Any]:
    """Say where rejected messages go."""
    # At-least-once keeps a dead letter until the other queue has confirmed it, and demands reject-publish.
    return {
        "dead-letter-exchange": "",
        "dead-letter-routing-key": queue,
        "dead-letter-strategy": "at-least-once",
        "overflow": "reject-publish",
        "delivery-limit": delivery_limit,
    }


def _apply_policy(management: Management, vhost: str, queue: str, definition: Mapping[str, Any]) -> None:
    policy = {"pattern": _exactly([queue]), "definition": definition, "apply-to": "queues", "priority": 1}
    management.put(f"policies/{vhost}/{queue}", policy)


def _apply_administrator(management: Management, vhost: str) -> None:
    login = {"password": management.password, "tags": f"administrator,{TAG}"}
    management.put(f"users/{quote(management.user, safe='')}", login)
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    management.put(f"permissions/{vhost}/{quote(management.user, safe='')}", everything)


def _apply_user(
    management: Management, vhost: str, name: str, user: Mapping[str, Any], password: str
) -> None:
    """Let a service publish to its exchanges and read its queues with their dead letters, and no more."""
    management.put(f"users/{name}", {"password": password, "tags": TAG})
    queues = [queue for base in user["reads"] for queue in (base, f"{base}.dead")]
    permissions = {"configure": "^$", "write": _exactly(user["publishes_to"]), "read": _exactly(queues)}
    management.put(f"permissions/{vhost}/{name}", permissions)


def _exactly(names: list[str]) -> str:
    """Return a pattern that matches these names alone; without a name it matches nothing."""
    return f"^({'|'.join(re.escape(name) for name in names)})$" if names else "^$"


def _delete_others(management: Management, wanted: set[str]) -> None:
    """Delete the broker's built-in user and users that an earlier start made under another name."""
    for user in management.get("users"):
        name, tags = user["name"], user["tags"]
        ours = TAG in (tags.split(",") if isinstance(tags, str) else tags)
        if name not in wanted and (ours or name == "guest"):
            management.delete(f"users/{quote(name, safe='')}")


def main() -> int:
    """Apply the topology with the settings of the environment."""
    parser = argparse.ArgumentParser(description="Set up RabbitMQ's users, exchange, queues and policies.")
    parser.add_argument("--host", default=os.environ.get("RABBITMQ_HOST", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=int(os.environ.get("RABBITMQ_MANAGEMENT_PORT", "15672")))
    parser.add_argument("--wait", type=float, default=120, metavar="SECONDS", help="for the broker")
    arguments = parser.parse_args()
    # A neighbour, which Python finds because this script is run by its path.
    from checks import Refused, check_secrets, read_files

    try:
        settings = dict(os.environ) | read_files(os.environ)
        login = settings["RABBITMQ_DEFAULT_USER"], settings["RABBITMQ_DEFAULT_PASS"]
        check_secrets(settings, ["RABBITMQ_DEFAULT_PASS", *password_names()])
        management = Management(arguments.host, arguments.port, *login)
        management.wait(arguments.wait)
        apply_topology(management, settings)
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        return 1
    except KeyError as setting:
        print(f"The setting {setting.args[0]} is missing.", file=sys.stderr)
        return 1
    except (BrokerError, *UNREACHABLE) as error:
        print(error, file=sys.stderr)
        return 1
    print("RabbitMQ is set up: users, exchange, queues and policies.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
