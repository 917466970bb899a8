"""The life of a notification, without a database."""

from datetime import UTC, datetime, timedelta

import pytest

from notification_service.errors import (
    CutOff,
    NotificationNotFailed,
    OutcomeUnknown,
    Resting,
    TemporaryFailure,
)
from notification_service.models import Notification

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)


def notification(**values):
    """Make a notification that has just been queued."""
    counts = {"attempts": 0, "doubts": 0}
    fresh = {"status": "queued", **counts, "next_attempt_at": NOW, "give_up_at": later(86_400)}
    return Notification(**{**fresh, **values})


def later(seconds):
    return NOW + timedelta(seconds=seconds)


def waits_after(tried, *errors):
    """Try once an error, each at the same moment; return the seconds until the next attempts."""
    waits = []
    for error in errors:
        tried.next_attempt_at = NOW
        tried.claim(NOW, claim_seconds=60)
        tried.postpone(NOW, error("?"))
        waits.append((tried.next_attempt_at - NOW).total_seconds())
    return waits


def test_a_queued_one_is_claimed_when_it_is_due():
    assert notification().claim(NOW, claim_seconds=60)
    assert not notification(next_attempt_at=later(1)).claim(NOW, claim_seconds=60)


def test_a_claim_keeps_others_away_for_a_minute():
    claimed = notification()
    claimed.claim(NOW, claim_seconds=60)
    assert not claimed.claim(later(60), claim_seconds=60)
    assert claimed.claim(later(61), claim_seconds=60)
    assert claimed.attempts == 2


@pytest.mark.parametrize("status", ["sent", "failed", "suppressed"])
def test_what_has_ended_is_not_claimed(status):
    assert not notification(status=status).claim(NOW, claim_seconds=60)


def test_waits_double_from_one_second_to_a_minute():
    waits = waits_after(notification(), *[TemporaryFailure] * 9)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_waits_for_what_may_have_arrived_are_long():
    waits = waits_after(notification(), *[OutcomeUnknown] * 6)
    assert [seconds / 60 for seconds in waits] == [10, 20, 40, 80, 160, 160]


@pytest.mark.parametrize(
    ("error", "waits"),
    [(CutOff, [15, 30, 60]), (OutcomeUnknown, [600, 1200, 2400])],
    ids=["cut off", "silent"],
)
def test_attempts_that_surely_failed_do_not_lengthen_the_waits_for_what_may_have_arrived(error, waits):
    assert waits_after(notification(attempts=300), *[error] * 3) == waits


def test_what_surely_failed_waits_no_longer_than_a_minute_after_what_may_have_arrived():
    tried = notification()
    assert waits_after(tried, CutOff, TemporaryFailure, Resting, CutOff) == [15, 2, 4, 30]
    assert (tried.attempts, tried.doubts) == (4, 2)


def test_no_wait_goes_beyond_the_24_hours():
    tried = notification(give_up_at=later(5))
    tried.claim(NOW, claim_seconds=60)
    tried.postpone(NOW, OutcomeUnknown("?"))
    assert tried.next_attempt_at == later(5)


def test_trying_ends_after_24_hours():
    tried = notification()
    tried.claim(NOW, claim_seconds=60)
    tried.postpone(NOW + timedelta(hours=24), TemporaryFailure("busy"))
    assert (tried.status, tried.last_error) == ("failed", "given up after 1 attempts: busy")


def test_only_a_failed_one_is_tried_again_by_hand():
    for status in ("queued", "sending", "sent", "suppressed"):
        with pytest.raises(NotificationNotFailed):
            notification(status=status).retry(NOW)
    failed = notification(status="failed", give_up_at=NOW - timedelta(hours=1))
    failed.retry(NOW)
    assert (failed.status, failed.give_up_at) == ("queued", NOW + timedelta(hours=24))


def test_a_long_reason_is_cut():
    failed = notification()
    failed.fail("x" * 10_000)
    assert len(failed.last_error) == 500
