"""A channel at rest: who waits for it in vain does so alone."""

import threading
from contextlib import suppress
from types import SimpleNamespace

import pytest

from notification_service.channels import breaker
from notification_service.channels.breaker import REST_SECONDS, SLOW_SECONDS, Breaker
from notification_service.errors import PermanentFailure, Resting, TemporaryFailure


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(breaker, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


@pytest.fixture
def rest(clock):
    return Breaker("the server", trial_seconds=30)


def fail(rest, clock, seconds, error=TemporaryFailure):
    with suppress(error), rest.trying():
        clock.seconds += seconds
        raise error("no")


def succeed(rest):
    with rest.trying():
        """Nothing goes wrong."""


def is_resting(rest):
    try:
        succeed(rest)
    except Resting:
        return True
    return False


@pytest.mark.parametrize(
    ("seconds", "error", "rests"),
    [
        (SLOW_SECONDS, TemporaryFailure, True),
        (SLOW_SECONDS - 1, TemporaryFailure, False),
        (SLOW_SECONDS, PermanentFailure, False),
        (SLOW_SECONDS, ValueError, False),
    ],
)
def test_a_slow_failure_has_the_next_ones_fail_at_once(rest, clock, seconds, error, rests):
    fail(rest, clock, seconds, error)
    assert is_resting(rest) == rests


def test_a_rest_has_an_end(rest, clock):
    fail(rest, clock, SLOW_SECONDS)
    clock.seconds += REST_SECONDS
    assert not is_resting(rest)
    assert not is_resting(rest)


def test_one_at_a_time_finds_out(rest, clock):
    fail(rest, clock, SLOW_SECONDS)
    clock.seconds += REST_SECONDS
    with rest.trying():
        assert is_resting(rest)
    fail(rest, clock, SLOW_SECONDS)
    clock.seconds += REST_SECONDS - 1
    assert is_resting(rest)


def test_one_that_never_comes_back_is_not_waited_for(rest, clock):
    fail(rest, clock, SLOW_SECONDS)
    clock.seconds += REST_SECONDS
    with rest.trying():
        clock.seconds += 30
        assert not is_resting(rest)


def test_a_black_holed_mail_server_holds_up_one_mail_and_no_text(app, deliver, box, sink, monkeypatch):
    monkeypatch.setattr(breaker, "SLOW_SECONDS", 0.2)
    tools = app.extensions["tools"]
    tried = []

    def hang(_server, _message):
        tried.append(1)
        threading.Event().wait(0.3)
        raise TimeoutError("timed out")

    monkeypatch.setattr(tools.mailer, "_hand_over", hang)
    for _ in range(3):
        deliver("order.paid")
    box.send(channel="email")
    box.send(channel="sms")
    assert len(tried) == 1
    assert {row.status for row in box.rows(channel="sms")} == {"sent"}
    assert [row.status for row in box.rows(channel="email")] == ["queued"] * 3
