"""Request ids and traces are taken over when they are well formed, else made."""

import time

import pytest

from chassis import context

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize("sent", ["abc", "A-Z_09", "x" * 128])
def test_takes_over_a_well_formed_request_id(sent: str) -> None:
    with context.bind_context(request_id=sent, traceparent=None):
        assert context.request_id.get() == sent


@pytest.mark.parametrize("sent", [None, "", "x" * 129, "a b", "a\n", "ä", "a;b"])
def test_makes_a_request_id_for_any_other(sent: str | None) -> None:
    with context.bind_context(request_id=sent, traceparent=None):
        assert context.request_id.get() not in ("", sent)


def test_a_trace_goes_on_in_a_new_span() -> None:
    child = context.child_traceparent(TRACE)
    assert child.split("-")[1] == TRACE.split("-")[1]
    assert child.split("-")[2] != TRACE.split("-")[2]


@pytest.mark.parametrize("sent", [None, "00-xyz", TRACE + "-00", "00-" + "0" * 32 + "-00f067aa0ba902b7-01"])
def test_a_malformed_trace_starts_a_new_one(sent: str | None) -> None:
    assert context.child_traceparent(sent).split("-")[1] != "4bf92f3577b34da6a3ce929d0e0e4736"


def test_the_context_ends_with_its_block() -> None:
    with context.bind_context(request_id="outer", traceparent=None):
        with context.bind_context(request_id="inner", traceparent=None):
            assert context.request_id.get() == "inner"
        assert context.request_id.get() == "outer"


def test_waits_share_the_deadline_of_their_request() -> None:
    with context.bind_context(request_id=None, traceparent=None, seconds=0.2):
        assert context.seconds_left(3) <= 0.2
        time.sleep(0.25)
        assert context.seconds_left(3) == 0
    assert context.seconds_left(3) == 3
