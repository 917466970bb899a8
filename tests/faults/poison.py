"""Poison: messages that are no events, which have to end among the dead letters and hold up nobody."""

from collections.abc import Mapping
from uuid import uuid4

import urllib3

from tests.faults.calls import Record

# Where a message that is no event is published, and which queues take it.
POISON = {
    "order.poison": ("order.events", "product-service.order.events"),
    "user.poison": ("user.events",),
}


def plant_poison(rabbitmq_url: str, env: Mapping[str, str], record: Record) -> None:
    """Publish one message of each kind."""
    login = f"{env['RABBITMQ_DEFAULT_USER']}:{env['RABBITMQ_DEFAULT_PASS']}"
    for number, (routing_key, queues) in enumerate(POISON.items()):
        message_id = f"lab-poison-{number}-{uuid4().hex[:8]}"
        _publish(rabbitmq_url, login, message_id, routing_key)
        record.poison.add(message_id)
        record.poison_in |= dict.fromkeys(queues, 1)


def _publish(rabbitmq_url: str, login: str, message_id: str, routing_key: str) -> None:
    body = {
        "properties": {"message_id": message_id, "delivery_mode": 2},
        "routing_key": routing_key,
        "payload": "no event at all",
        "payload_encoding": "string",
    }
    done = urllib3.request(
        "POST",
        f"{rabbitmq_url}/api/exchanges/%2F/ecommerce.events/publish",
        json=body,
        headers=urllib3.make_headers(basic_auth=login),
    )
    assert done.status == 200, f"the poison was not taken: {done.data!r}"
    assert done.json()["routed"], f"no queue takes {routing_key}"
