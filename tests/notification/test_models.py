"""The life of a notification, without a database."""

from datetime import UTC, datetime, timedelta

import pytest

from notification_service.errors import NotificationNotFailed, OutcomeUnknown
from notification_service.models import Notification

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)


def notification(**values):
    """Make a notification that has just been queued."""
    fresh = {"status": "queued", "attempts": 0, "next_attempt_at": NOW, "give_up_at": later(86_400)}
    return Notification(**{**fresh, **values})


def later(seconds):
    return NOW + timedelta(seconds=seconds)


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
    waits = []
    tried = notification()
    for _ in range(9):
        tried.claim(tried.next_attempt_at, claim_seconds=60)
        tried.postpone(NOW, "later")
        waits.append((tried.next_attempt_at - NOW).total_seconds())
        tried.next_attempt_at = NOW
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_waits_for_what_may_have_arrived_are_long():
    waits, tried = [], notification()
    for _ in range(6):
        tried.claim(tried.next_attempt_at, claim_seconds=60)
        tried.postpone(NOW, "?", first=OutcomeUnknown.first_wait, longest=OutcomeUnknown.longest_wait)
        waits.append((tried.next_attempt_at - NOW).total_seconds() / 60)
        tried.next_attempt_at = NOW
    assert waits == [10, 20, 40, 80, 160, 160]


def test_no_wait_goes_beyond_the_24_hours():
    tried = notification(give_up_at=later(5))
    tried.claim(NOW, claim_seconds=60)
    tried.postpone(NOW, "?", first=600)
    assert tried.next_attempt_at == later(5)


def test_trying_ends_after_24_hours():
    tried = notification()
    tried.claim(NOW, claim_seconds=60)
    tried.postpone(NOW + timedelta(hours=24), "busy")
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
