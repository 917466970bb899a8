"""A broker in alarm takes connections and no message: the shop sells on, and the events arrive afterwards."""

import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.client import POOL, eventually
from tests.e2e.shoppers import Shoppers
from tests.e2e.suite import Suite
from tests.e2e.test_operations import Broker

ALARM_SECONDS = 30
# As in deploy/setup/rabbitmq.conf.
WATERMARK = ("set_vm_memory_high_watermark", "absolute", "400MB")
RECEIPTS = "/notifications/history?event_type=order.paid&channel=email&status=sent"


@contextmanager
def alarm(suite: Suite) -> Iterator[None]:
    """Have the broker find that it has no memory left."""
    suite.rabbitmqctl("set_vm_memory_high_watermark", "0")
    try:
        yield
    finally:
        suite.rabbitmqctl(*WATERMARK)


def unsent(suite: Suite, service: str) -> int:
    text = POOL.request("GET", f"{suite.service_urls[service]}/metrics").data.decode()
    return int(float(re.search(r"^outbox_unsent (\S+)", text, re.MULTILINE)[1]))


def has_alarm(broker: Broker) -> bool:
    return all(node["mem_alarm"] for node in broker.get("/nodes"))


@pytest.mark.thorough
def test_an_alarm_of_30_s_fails_no_request_and_loses_no_event(
    running_suite, new_customer, new_product, mailbox
):
    broker = Broker(running_suite)
    buyers = [new_customer() for _ in range(2)]
    crowd = Shoppers(buyers, new_product(stock=10_000), reading_seconds=0.3)
    newcomers = []
    with alarm(running_suite), crowd.shopping():
        assert eventually(lambda: has_alarm(broker))
        ends = time.monotonic() + ALARM_SECONDS
        while time.monotonic() < ends:
            newcomers.append(new_customer())
            time.sleep(2)
        waiting = {service: unsent(running_suite, service) for service in ("user-service", "order-service")}
    assert crowd.failures == []
    # The events of the alarm's time, bar those of the first moment, had to wait for its end.
    assert waiting["user-service"] >= len(newcomers) - 1
    assert waiting["order-service"] >= len(crowd.paid) / 2
    services = ("user-service", "product-service", "order-service")
    assert eventually(lambda: not any(unsent(running_suite, name) for name in services), seconds=30)
    paid = Counter(order["user_id"] for order in crowd.paid)
    for buyer in buyers:
        number = paid[buyer.user["id"]]
        assert number > 0
        assert eventually(lambda b=buyer, n=number: len(b.all(RECEIPTS)) == n, seconds=60, every=1)
    for newcomer in newcomers:
        mailbox.wait(newcomer.user["email"])
