"""The suite is at rest in time only when the quiet began in time."""

import pytest

from tests.faults import rest
from tests.faults.rest import UNDER_WAY, Rest, wait_for_rest
from tests.faults.test_stage import Rehearsal


class Hours:
    """A clock that only looks and sleeps move, and a suite that is busy between given seconds of it."""

    def __init__(self, *busy: tuple[float, float]) -> None:
        self.now, self.busy = 0.0, busy

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def find_unrest(self, _: object) -> str:
        return next((f"busy until {ends}" for begins, ends in self.busy if begins <= self.now < ends), "")


def wait(monkeypatch: pytest.MonkeyPatch, *busy: tuple[float, float]) -> Rest:
    """Wait for the rest of such a suite, whose limit is 60 s."""
    hours = Hours(*busy)
    monkeypatch.setattr(rest, "time", hours)
    monkeypatch.setattr(rest, "find_unrest", hours.find_unrest)
    return wait_for_rest(Rehearsal(), 60.0)


def test_quiet_that_began_just_in_time_may_last_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    found = wait(monkeypatch, (0, 59.5))
    assert found.reached
    assert found.seconds == pytest.approx(64.5)


def test_quiet_that_began_after_the_limit_is_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    # It ends between two looks, the first of which is the last in time.
    found = wait(monkeypatch, (0, 60.1))
    assert not found.reached
    assert found.last == "busy until 60.1"


def test_quiet_that_was_broken_after_the_limit_is_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    found = wait(monkeypatch, (0, 58), (61, 61.5))
    assert not found.reached


def test_who_looks_only_after_the_limit_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    hours = Hours()
    hours.now = 70.0
    monkeypatch.setattr(rest, "time", hours)
    monkeypatch.setattr(rest, "find_unrest", hours.find_unrest)
    found = wait_for_rest(Rehearsal(), 60.0)
    assert not found.reached
    assert found.last == "nobody looked before"


@pytest.mark.parametrize("status", ["processing", "requires_action"])
def test_a_payment_that_waits_for_anybody_is_under_way(status: str) -> None:
    assert f"'{status}'" in UNDER_WAY["order"]["payments"]
