"""A backup of the shop in containers, restored into an empty plain suite: so it changes its mode."""

import os
import subprocess
from pathlib import Path

import pytest

from deploy.local.trial import trial_folder
from tests.e2e.client import Client
from tests.e2e.conftest import PASSWORD
from tests.e2e.suite import REPOSITORY

pytestmark = pytest.mark.skipif("SHOP_URL" not in os.environ, reason="needs the suite in containers")
# Another folder, another mode and other ports are named by the test, never by who runs it.
KEPT = ("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONTEXT")


def operate(script: str, *line: str, **variables: str) -> str:
    """Run one of the operator's scripts, which has to succeed, and return what it prints."""
    environment = {name: os.environ[name] for name in KEPT if name in os.environ} | variables
    command = [str(REPOSITORY / "scripts" / script), *line]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def archive(running_suite):
    """Return a function that backs up the suite in containers; the file is deleted at the end."""
    made: list[Path] = []

    def back_up() -> Path:
        made.append(Path(operate("suite.sh", "backup", MODE="docker").split()[0]))
        return made[-1]

    yield back_up
    for path in made:
        path.unlink()


def told(shop: Client, orders: list[str], product: int) -> dict[str, object]:
    """Return what somebody is told of themselves, their orders and what is left of a product."""
    return {
        "profile": shop.get("/profile").expect(200),
        "orders": [shop.get(f"/orders/{order}").expect(200) for order in orders],
        "stock": shop.get(f"/products/{product}").expect(200)["stock"],
    }


def test_a_shop_in_containers_goes_on_without_them(
    running_suite, archive, new_customer, new_product, new_order, new_paid_order
):
    buyer, product = new_customer(nickname="王小明"), new_product(stock=20)["id"]
    paid = [new_paid_order(buyer, (product, 2))["id"] for _ in range(3)]
    orders = [*paid, new_order(buyer, (product, 1))["id"]]
    before = told(buyer, orders, product)
    assert [order["status"] for order in before["orders"]] == ["paid", "paid", "paid", "pending"]
    assert before["stock"] == 13
    file = archive()

    secret = running_suite.env["KEY_ENCRYPTION_SECRET"]
    with trial_folder(KEY_ENCRYPTION_SECRET=secret) as (folder, settings):
        plain = {"MODE": "plain", "SUITE_ROOT": str(folder)}
        assert operate("suite.sh", "restore", str(file), **plain).splitlines()[-1] == "drift 0"
        shop = Client(f"http://127.0.0.1:{settings['HTTP_PORT']}").login(buyer.user["username"], PASSWORD)
        assert told(shop, orders, product) == before
        # What was begun in containers is finished without them.
        shop.post(f"/orders/{orders[-1]}/pay", {"method": "sandbox"}).expect(200)
        assert "drift 0" in operate("service.sh", "order-service", "flask", "reconcile", **plain)
    # Nothing of it reached the suite that was backed up.
    assert told(buyer, orders, product) == before
