"""Replicas are replaced one by one under load, and nobody notices."""

import os
import subprocess

import pytest

from tests.e2e.shoppers import Shoppers
from tests.e2e.suite import REPOSITORY

CALLS = 600
BUYERS = 4

pytestmark = pytest.mark.skipif("SHOP_URL" not in os.environ, reason="a plain suite has no replicas")


def run(*command: str) -> str:
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def containers(service: str) -> dict[str, str]:
    """Return the image of each of a service's replicas."""
    ids = run("docker", "compose", "ps", "-q", service).split()
    return {name: run("docker", "inspect", "--format", "{{.Image}}", name).strip() for name in ids}


def scale(service: str, number: int) -> None:
    replicas = f"{service}={number}"
    run("docker", "compose", "up", "-d", "--no-deps", "--no-recreate", "--wait", "--scale", replicas, service)


@pytest.fixture
def crowd(new_customer, new_product) -> Shoppers:
    return Shoppers([new_customer() for _ in range(BUYERS)], new_product(stock=100_000), 0.15)


# One replica gets a second for the time; peers find replicas by name, past Nginx.
@pytest.mark.parametrize(("service", "replicas"), [("order-service", 2), ("product-service", 1)])
def test_a_rolling_restart_under_load_fails_no_request(running_suite, crowd, service, replicas):
    scale(service, replicas)
    before = containers(service)
    try:
        with crowd.shopping():
            crowd.wait_for(50)
            while sum(crowd.answers.values()) < CALLS:
                run("make", "rolling-restart", f"SERVICE={service}")
        after = containers(service)
    finally:
        scale(service, 1)
    assert crowd.failures == []
    assert len(after) == len(before) == replicas
    assert not before.keys() & after.keys()
    built = run("docker", "image", "inspect", "--format", "{{.Id}}", f"ecommerce-basic/{service}").strip()
    assert set(after.values()) == {built}


def refused(service: str, **variables: str) -> str:
    line = ["make", "-s", "rolling-restart", f"SERVICE={service}"]
    env = {**os.environ, **variables}
    done = subprocess.run(
        line, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode != 0
    return done.stderr


def test_a_new_replica_that_does_not_become_healthy_is_removed(running_suite, anyone):
    before = containers("user-service")
    assert "did not become healthy and was removed" in refused("user-service", WAIT_SECONDS="0")
    assert containers("user-service") == before
    anyone.get("/health", prefix="").expect(200)


def test_a_rolling_restart_of_something_else_is_refused_in_one_sentence(running_suite):
    assert refused("postgres").startswith("Name a service that Nginx leads to")
