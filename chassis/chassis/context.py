"""What one request, event or task carries along: request id, trace context and deadline."""

import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from uuid import uuid4

request_id: ContextVar[str] = ContextVar("request_id", default="")
traceparent: ContextVar[str] = ContextVar("traceparent", default="")
_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)
# When the request in hand came, which may be long before a thread was free for it.
arrived_at: ContextVar[float | None] = ContextVar("arrived_at", default=None)
# `bind_context` has arguments of the same names, which hide the variables inside it.
_request_id_var, _traceparent_var = request_id, traceparent

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z")


@contextmanager
def bind_context(
    *, request_id: str | None, traceparent: str | None, seconds: float | None = None
) -> Iterator[None]:
    """Take over the caller's request id and trace (or make new ones) for the block.

    `seconds` bounds all waiting on dependencies in the block together.
    """
    tokens = (
        _set(_request_id_var, accepted_request_id(request_id)),
        _set(_traceparent_var, child_traceparent(traceparent)),
        _set(_deadline, time.monotonic() + seconds if seconds else None),
    )
    try:
        yield
    finally:
        for var, token in tokens:
            var.reset(token)


def accepted_request_id(sent: str | None) -> str:
    """Return the sent id when it is 1–128 of `[A-Za-z0-9_-]`, else a new one."""
    return sent if sent and _REQUEST_ID.match(sent) else uuid4().hex


def child_traceparent(sent: str | None) -> str:
    """Return a W3C traceparent: a new span in the sent trace, or a new trace."""
    if sent and _TRACEPARENT.match(sent):
        version, trace, _, flags = sent.split("-")
        return f"{version}-{trace}-{secrets.token_hex(8)}-{flags}"
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def seconds_left(at_most: float) -> float:
    """Return how long one wait may last: `at_most`, or what the request's deadline leaves."""
    deadline = _deadline.get()
    return at_most if deadline is None else max(0.0, min(at_most, deadline - time.monotonic()))


def seconds_since_arrival() -> float:
    """Return how long ago the request in hand came; outside of one, 0."""
    at = arrived_at.get()
    return 0.0 if at is None else time.monotonic() - at


def _set(var: ContextVar, value: object) -> tuple:
    return var, var.set(value)
