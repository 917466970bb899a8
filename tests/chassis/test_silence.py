"""How long a request waits for a dependency that is silent."""

import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

import chassis.silence
from chassis import context
from chassis.silence import PROBES, SHORT_SECONDS, Silence


@pytest.fixture
def queued() -> Iterator[None]:
    """Be in a request that has waited a second for its thread."""
    token = context.arrived_at.set(time.monotonic() - 1)
    yield
    context.arrived_at.reset(token)


@pytest.fixture
def silence() -> Silence:
    return Silence(3.0)


@pytest.mark.usefixtures("queued")
def test_all_wait_in_full_for_what_answers(silence: Silence) -> None:
    assert [silence.seconds() for _ in range(5)] == [3.0] * 5


def test_few_wait_in_full_for_what_is_silent(silence: Silence, monkeypatch: pytest.MonkeyPatch) -> None:
    silence.begins(after=3.0)
    clock = iter(range(1000))
    monkeypatch.setattr(chassis.silence, "time", SimpleNamespace(monotonic=lambda: 3.0 * next(clock) / 100))
    waits = [silence.seconds() for _ in range(96)]
    assert waits.count(3.0) == PROBES
    assert waits.count(SHORT_SECONDS) == 96 - PROBES


def test_an_answer_ends_the_silence(silence: Silence) -> None:
    silence.begins(after=3.0)
    silence.seconds()
    assert silence.seconds() == SHORT_SECONDS
    silence.ends()
    assert silence.seconds() == 3.0


def test_one_wait_without_an_answer_is_no_silence_while_others_are_answered(silence: Silence) -> None:
    silence.ends()
    silence.begins(after=3.0)
    assert [silence.seconds(), silence.seconds()] == [3.0, 3.0]


@pytest.mark.usefixtures("queued")
def test_what_was_queued_counts_while_it_is_silent(silence: Silence) -> None:
    silence.begins(after=3.0)
    assert silence.seconds() == pytest.approx(2.0, abs=0.5)


@pytest.mark.usefixtures("queued")
def test_who_has_queued_long_still_tries() -> None:
    silence = Silence(0.5)
    silence.begins(after=0.5)
    assert silence.seconds() == SHORT_SECONDS


def test_a_wait_that_was_cut_short_tells_nothing(silence: Silence) -> None:
    silence.begins(after=1.4)
    assert [silence.seconds(), silence.seconds()] == [3.0, 3.0]
    silence.begins(after=1.5)
    silence.begins(after=0.1)
    assert [silence.seconds(), silence.seconds()] == [3.0, SHORT_SECONDS]


def test_the_deadline_of_the_request_holds(silence: Silence) -> None:
    with context.bind_context(request_id=None, traceparent=None, seconds=0.5):
        assert silence.seconds() <= 0.5
