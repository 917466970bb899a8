"""Recording an event: with its cause or not at all, in the order of commits, at a constant cost."""

import json
import threading
import time
from decimal import Decimal

import pytest
import sqlalchemy.exc
from jsonschema import Draft202012Validator
from sqlalchemy import event as hooks
from sqlalchemy import select
from sqlalchemy.orm import Session

from chassis.context import bind_context
from chassis.db import transaction
from chassis.events import (
    MAX_DATA,
    Event,
    MalformedEvent,
    NewEvent,
    Unsent,
    encode_cloudevent,
    parse_cloudevent,
    record,
    to_cloudevent,
)
from tests.chassis.messaging.conftest import wait_for, waits_for_lock
from tests.chassis.messaging.sample import Thing, db, rename
from tests.contracts.event_schemas import registry


def recorded(session: Session) -> list[Event]:
    session.rollback()
    return list(session.scalars(select(Event).order_by(Event.sequence)))


def test_an_event_is_recorded_with_its_cause_and_is_unsent(session):
    rename(session, 1, "a")
    [event] = recorded(session)
    assert (event.type, event.subject, event.data) == ("order.paid", "thing-1", {"name": "a"})
    assert event.id.version == 7
    assert session.scalars(select(Unsent.sequence)).all() == [event.sequence]


def test_what_is_rolled_back_leaves_no_event(session):
    def fail():
        with transaction(session) as here:
            record(here, NewEvent("order.paid", "1", {}))
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert recorded(session) == []
    assert session.scalars(select(Unsent)).all() == []


def test_recording_costs_one_statement_however_many_events(session):
    statements = []
    hooks.listen(db.engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    costs = []
    for number in (1, 100):
        statements.clear()
        with transaction(session) as here:
            record(here, *(NewEvent("order.paid", str(n), {"n": n}) for n in range(number)))
        costs.append(len(statements))
    assert costs == [1, 1]


def test_events_of_one_call_keep_their_order(session):
    rename(session, 1, *(str(n) for n in range(300)))
    assert [event.data["name"] for event in recorded(session)] == [str(n) for n in range(300)]


def test_the_sequence_is_drawn_only_once_the_subject_is_locked(session, app):
    rename(session, 1, "first")

    def change_later():
        with app.app_context(), Session(db.engine, autoflush=False) as other, transaction(other):
            other.get(Thing, 1).name = "late"  # Not written yet, so not locked either.
            reading.set()
            may_write.wait(5)
            record(other, NewEvent("order.paid", "thing-1", {"name": "late"}))

    reading, may_write = threading.Event(), threading.Event()
    thread = threading.Thread(target=change_later)
    thread.start()
    reading.wait(5)
    with transaction(session) as here:
        here.get(Thing, 1, with_for_update=True)
        may_write.set()
        wait_for(waits_for_lock)
        record(here, NewEvent("order.paid", "thing-1", {"name": "early"}))
    thread.join()
    assert [event.data["name"] for event in recorded(session)] == ["first", "early", "late"]


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(NewEvent("order.paid", "1", {"name": "nul \0"}), id="nul"),
        pytest.param(NewEvent("order.paid", "nul \0", {}), id="nul in subject"),
        pytest.param(NewEvent("order.paid", "1", {"name": "half \ud800"}), id="half a character"),
        pytest.param(NewEvent("order.paid", "1", {"amount": Decimal("1.10")}), id="decimal"),
        pytest.param(NewEvent("order.paid", "1", {"big": 2**70}), id="integer too large"),
        pytest.param(NewEvent("order.paid", "1", {"long": "x" * MAX_DATA}), id="too long"),
        pytest.param(NewEvent("order." + "x" * 250, "1", {}), id="type too long"),
        pytest.param(NewEvent("", "1", {}), id="no type"),
    ],
)
def test_what_cannot_be_encoded_fails_its_own_transaction(session, event):
    def use_case():
        with transaction(session) as here:
            here.add(Thing(id=7))
            record(here, NewEvent("order.paid", "2", {}), event)

    with pytest.raises((TypeError, ValueError, sqlalchemy.exc.DBAPIError)):
        use_case()
    assert recorded(session) == []
    assert session.get(Thing, 7) is None
    rename(session, 1, "the next one is fine")


def test_an_event_carries_request_id_and_trace_into_its_message(session):
    sent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with bind_context(request_id="request-1", traceparent=sent):
        rename(session, 1, "a")
    [event] = recorded(session)
    envelope = parse_cloudevent(encode_cloudevent(event, "product-service"))
    assert envelope.requestid == "request-1"
    assert envelope.traceparent.split("-")[1] == sent.split("-")[1]


@pytest.mark.parametrize("in_request", [True, False])
def test_a_message_is_a_cloudevent_as_the_contract_says(session, in_request):
    if in_request:
        with bind_context(request_id=None, traceparent=None):
            rename(session, 1, "名字")
    else:
        rename(session, 1, "名字")
    [event] = recorded(session)
    document = parse_cloudevent(encode_cloudevent(event, "product-service"))
    sent = encode_cloudevent(event, "product-service")
    validator = Draft202012Validator(
        {"$ref": "https://events.example/parts/envelope.json"},
        registry=registry(),
        format_checker=Draft202012Validator.FORMAT_CHECKER,
    )
    validator.validate(json.loads(sent))
    assert b"+00:00" not in sent
    assert (document.data, document.sequence) == ({"name": "名字"}, event.sequence)
    assert document.time == event.occurred_at


def test_the_document_says_what_it_is(session):
    rename(session, 1, "a")
    document = to_cloudevent(recorded(session)[0], "product-service")
    assert document["specversion"] == "1.0"
    assert document["datacontenttype"] == "application/json"
    assert document["source"] == "product-service"


GOOD = (
    b'{"specversion":"1.0","id":"019ab0c4-7f5e-7cc3-98c4-dc0c0c070007","source":"s","type":"order.paid",'
    b'"subject":"1","time":"2026-11-23T08:00:00Z","data":{},"sequence":1,"later":"unknown"}'
)


def test_unknown_members_are_left_aside():
    assert parse_cloudevent(GOOD).sequence == 1


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "body"),
        (b"\xff\xfe", "body"),
        (b"[]", "body"),
        (GOOD.replace(b'"1.0"', b'"0.3"'), "specversion"),
        (GOOD.replace(b'"sequence":1', b'"sequence":"1"'), "sequence"),
        (GOOD.replace(b'"data":{}', b'"data":null'), "data"),
        (GOOD.replace(b"019ab0c4", b"nonsense"), "id"),
        (GOOD.replace(b"08:00:00Z", b"08:00:00"), "time"),
    ],
)
def test_a_malformed_message_names_what_is_wrong(body, named):
    with pytest.raises(MalformedEvent, match=named):
        parse_cloudevent(body)


def test_recording_nothing_costs_nothing(session):
    started = time.monotonic()
    record(session)
    assert time.monotonic() - started < 0.5
    assert recorded(session) == []
