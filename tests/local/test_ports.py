"""Free ports: nobody listens on them, and no two processes choose the same."""

import os
import random
import subprocess
import sys
from collections import deque

import pytest

from deploy.local import ports
from deploy.local.errors import SetupError
from deploy.local.ports import free_ports

CHOOSE_TWO = """
import sys
from deploy.local import ports
ports.FREE_RANGE = range(int(sys.argv[1]), int(sys.argv[2]))
print(*ports.free_ports(2), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def three(monkeypatch):
    """Have three ports in all, of those that nobody is given otherwise."""
    first = random.randrange(ports.FREE_RANGE.stop, 32700)
    monkeypatch.setattr(ports, "FREE_RANGE", range(first, first + 3))
    monkeypatch.setattr(ports, "_claims", deque())
    yield ports.FREE_RANGE
    for claim in ports._claims:
        os.close(claim)


def test_a_port_is_chosen_once(three):
    assert sorted([*free_ports(1), *free_ports(2)]) == list(three)
    with pytest.raises(SetupError):
        free_ports(1)


def test_what_another_process_has_chosen_is_its_own_until_it_ends(three):
    command = [sys.executable, "-c", CHOOSE_TWO, str(three.start), str(three.stop)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        theirs = {int(port) for port in other.stdout.readline().split()}
        assert {*free_ports(1)} == {*three} - theirs
        with pytest.raises(SetupError):
            free_ports(1)
        other.communicate("")
    assert {*free_ports(2)} == theirs


def test_old_choices_are_given_up(three, monkeypatch):
    monkeypatch.setattr(ports, "CLAIMS", 2)
    chosen = [free_ports(1) for _ in range(6)]
    assert [chosen[0], chosen[1], chosen[2]] == [chosen[3], chosen[4], chosen[5]]
