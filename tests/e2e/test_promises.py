"""What is promised of the events' speed holds: the benches that print it fail when it does not."""

import os
import subprocess
import sys

import pytest

from tests.e2e.suite import REPOSITORY

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif("SHOP_URL" in os.environ, reason="a plain suite shows it, on servers of its own"),
]


@pytest.mark.parametrize(
    "bench",
    [
        ("bench/events.py", "--seconds", "30", "--outage", "30"),
        ("bench/relay.py",),
    ],
    ids=lambda bench: bench[0],
)
def test_a_bench_finds_what_is_promised(bench):
    command = [sys.executable, *bench]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=400, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
