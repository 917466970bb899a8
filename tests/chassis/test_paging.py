"""Cursors: those of a list go on where its page ended, and whatever else is sent as one is refused."""

import base64
import contextlib
import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Double,
    Engine,
    MetaData,
    Numeric,
    Table,
    Text,
    Uuid,
    create_engine,
    select,
    text,
)
from sqlalchemy.orm import Session

from chassis.errors import Refusal
from chassis.paging import Page, fetch_page
from tests.servers import PostgresServer

UNIQUE = "00000000-0000-0000-0000-000000000007"
# A column of each type that a list may be ordered by, with what a cursor holds of it.
GENUINE = {
    "number": "7",
    "ratio": "0.5",
    "word": "tea",
    "time": "2026-11-23T08:00:00.000001+00:00",
    "price": "10.00",
    "code": UNIQUE,
}
COLUMNS = {
    "number": BigInteger(),
    "ratio": Double(),
    "word": Text(),
    "time": DateTime(timezone=True),
    "price": Numeric(9, 2),
    "code": Uuid(),
}


@pytest.fixture(scope="module")
def engine(postgres_server: PostgresServer) -> Iterator[Engine]:
    engine = create_engine(postgres_server.make_database("paging").url)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def things(engine: Engine) -> Any:
    """A table of three rows, two of which are equal but for their code."""
    table = Table("things", MetaData(), *(Column(name, kind) for name, kind in COLUMNS.items()))
    table.create(engine)
    row = "SELECT {}, 0.5, 'tea', '2026-11-23T08:00:00.000001Z', 10, CAST('{}' AS uuid)"
    with engine.begin() as connection:
        for number, last in ((7, 5), (7, 6), (8, 7)):
            code = UNIQUE[:-1] + str(last)
            connection.execute(text("INSERT INTO things " + row.format(number, code)))
    return table


def cursor_of(*written: Any) -> str:
    """Write a cursor of any content."""
    return base64.urlsafe_b64encode(json.dumps(written, separators=(",", ":")).encode()).decode().rstrip("=")


def fetch(engine: Engine, table: Any, names: list[str], cursor: str | None, limit: int = 1) -> Page[Any]:
    keys = [table.c[name] for name in names]
    with Session(engine) as session:
        return fetch_page(session, select(table.c.code), keys=keys, cursor=cursor, limit=limit)


@pytest.mark.parametrize("name", [name for name in COLUMNS if name != "code"])
def test_a_cursor_of_a_column_of_any_type_goes_on_where_its_page_ended(engine, things, name):
    seen: list[Any] = []
    page = Page([], "")
    while page.next_cursor is not None:
        page = fetch(engine, things, [name, "code"], page.next_cursor or None)
        seen += page.items
    assert seen == [UUID(UNIQUE[:-1] + last) for last in "765"]


@pytest.mark.parametrize("name", COLUMNS)
def test_a_cursor_that_holds_what_a_page_writes_is_taken(engine, things, name):
    assert fetch(engine, things, [name], cursor_of("-" + name, GENUINE[name]), limit=100).next_cursor is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("number", value)
            for value in (1e999, float("nan"), 5, True, None, [], {}, "1e3", " 7", "٧", "07")
        ),
        *(("number", value) for value in (str(2**63), str(-(2**63) - 1), "9" * 5000)),
        *(("code", value) for value in (5, [], UNIQUE.replace("-", ""), "{" + UNIQUE + "}")),
        *(("time", value) for value in (5, "2026-11-23", "2026-11-23T08:00:00", "20261123T080000+00:00")),
        *(("time", f"2024-01-01T00:00:00{offset}") for offset in ("+23:00", "-16:00", "+00:00:00.5", "Z")),
        *(("time", value) for value in ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59")),
        *(("price", value) for value in ("1e-99999", "1E-99999", "1E+99999", "1E+9999999999999")),
        *(("price", value) for value in ("NaN", "sNaN", "-Infinity", 5, 1.5, "0." + "0" * 3000 + "1")),
        *(("ratio", value) for value in ("1e999", 0.5, "1_0.0", "nan", "inf")),
        *(("word", value) for value in (5, "a\0b", "\ud800", {"a": 1})),
    ],
)
def test_a_forged_value_is_refused(engine, things, name, value):
    with pytest.raises(Refusal) as refusal:
        fetch(engine, things, [name], cursor_of("-" + name, value))
    assert (refusal.value.status, refusal.value.code) == (400, "invalid_cursor")


@pytest.mark.parametrize(
    "cursor",
    [
        *("", "x", "e30", "W10", "bnVsbA"),
        *(cursor_of(*written) for written in (["-number"], ["-number", "7", "7"], ["+number", "7"])),
        *(cursor_of("-number", "7") + "=", base64.b64encode(b'["-number", "7"]').decode()),
    ],
)
def test_what_no_page_of_the_list_has_written_is_refused(engine, things, cursor):
    with pytest.raises(Refusal):
        fetch(engine, things, ["number"], cursor)


def near(genuine: str) -> st.SearchStrategy[Any]:
    """Make values that resemble what a cursor holds."""
    numbers = st.decimals().map(str) | st.floats().map(str) | st.integers().map(str)
    times = st.datetimes(timezones=st.timezones() | st.none()).map(lambda time: time.isoformat())
    json_values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
        max_leaves=3,
    )
    changed = st.builds(
        lambda at, put: genuine[:at] + put + genuine[at + 1 :],
        st.integers(0, len(genuine)),
        st.text("0123456789+-.:eEinfaT\0 ", max_size=3),
    )
    return numbers | times | json_values | changed | st.text() | st.uuids().map(str)


@pytest.mark.parametrize("name", COLUMNS)
def test_no_cursor_at_all_makes_anything_but_a_page_or_a_400(engine, things, name):
    @settings(
        max_examples=150,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
    @given(near(GENUINE[name]))
    @example(float("inf"))
    @example("1E-99999")
    @example("5e-324")
    @example("1.7976931348623157e+308")
    def try_out(value: Any) -> None:
        with contextlib.suppress(Refusal):
            fetch(engine, things, [name], cursor_of("-" + name, value))

    try_out()
