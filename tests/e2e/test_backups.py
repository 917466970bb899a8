"""A backup taken while the shop sells, restored into an empty suite: no answer from before it is lost."""

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.local.trial import trial_folder
from tests.e2e.client import Client
from tests.e2e.conftest import PASSWORD
from tests.e2e.suite import REPOSITORY

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif("SHOP_URL" in os.environ, reason="needs two suites beside each other"),
]


def suite(folder: Path, *line: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run the operator's script for the plain suite of a folder."""
    environment = {"PATH": os.environ["PATH"], "MODE": "plain", "SUITE_ROOT": str(folder), **variables}
    command = [str(REPOSITORY / "scripts/suite.sh"), *line]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)


@dataclass
class Answered:
    """What was answered, and when the answer was there."""

    orders: dict[str, datetime] = field(default_factory=dict)
    paid: dict[str, datetime] = field(default_factory=dict)
    others: list[int] = field(default_factory=list)


@contextmanager
def selling(buyer: Client, product_id: int, threads: int = 4) -> Iterator[Answered]:
    """Order and pay, again and again, until the block ends."""
    answered, over = Answered(), threading.Event()

    def buy() -> None:
        while not over.is_set():
            placed = buyer.post("/orders", {"items": [{"product_id": product_id, "quantity": 1}]})
            if placed.status != 201:
                answered.others.append(placed.status)
                continue
            answered.orders[placed.body["id"]] = datetime.now(UTC)
            paid = buyer.post(f"/orders/{placed.body['id']}/pay", {"method": "sandbox"})
            if paid.status == 200:
                answered.paid[placed.body["id"]] = datetime.now(UTC)
            else:
                answered.others.append(paid.status)

    workers = [threading.Thread(target=buy) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield answered
    finally:
        over.set()
        for worker in workers:
            worker.join()


def test_a_backup_of_a_selling_shop_is_whole_and_restores(running_suite, new_customer, new_product):
    folder = running_suite.logs.parent
    buyer, product = new_customer(), new_product(stock=100_000)
    name = buyer.get("/profile").expect(200)["username"]
    with selling(buyer, product["id"]) as answered:
        time.sleep(1.5)
        done = suite(folder, "backup")
        time.sleep(0.5)
    assert done.returncode == 0, done.stderr
    assert answered.others == []
    archive = Path(done.stdout.split()[0])
    assert archive.parent == folder / "backups"
    assert archive.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in archive.parent.iterdir()] == [archive.name]
    taken_at = datetime.fromisoformat(done.stdout.split()[1])
    before = {order for order, at in answered.orders.items() if at < taken_at}
    paid_before = {order for order, at in answered.paid.items() if at < taken_at}
    assert len(paid_before) > 5
    assert len(answered.orders) > len(before) + 5

    with trial_folder() as (other, settings):
        restored = suite(other, "restore", str(archive))
        assert restored.returncode == 0, restored.stdout + restored.stderr
        assert restored.stdout.splitlines()[-1] == "drift 0"
        shop = Client(f"http://127.0.0.1:{settings['HTTP_PORT']}").login(name, PASSWORD)
        there = {order: shop.get(f"/orders/{order}").expect(200)["status"] for order in sorted(before)}
        assert {order for order in paid_before if there[order] != "paid"} == set()
        # It goes on selling, under new ids.
        line = [{"product_id": product["id"], "quantity": 1}]
        order = shop.post("/orders", {"items": line}).expect(201)
        shop.post(f"/orders/{order['id']}/pay", {"method": "sandbox"}).expect(200)

        refused = suite(other, "restore", str(archive))
        assert refused.returncode == 1
        assert refused.stderr.startswith("The suite is not empty (")
        assert len(refused.stderr.splitlines()) == 1
        shop.get(f"/orders/{order['id']}").expect(200)


def test_what_is_no_backup_is_refused_before_anything_happens(running_suite, tmp_path):
    folder = running_suite.logs.parent
    assert suite(folder, "restore").stderr.startswith("Name a backup: make restore FILE=")
    assert "There is no backup" in suite(folder, "restore", str(tmp_path / "none.tar")).stderr
    (tmp_path / "some.tar").write_text("no archive")
    refused = suite(folder, "restore", str(tmp_path / "some.tar"))
    assert (refused.returncode, refused.stderr) == (1, f"{tmp_path}/some.tar is no whole backup of a shop.\n")
