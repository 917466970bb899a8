"""Keyset paging: page 10,000 costs what page 1 costs."""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import Select, tuple_
from sqlalchemy.orm import Session

from chassis.errors import Refusal

T = TypeVar("T")
PARSERS: dict[type, Any] = {
    int: int,
    float: float,
    str: str,
    datetime: datetime.fromisoformat,
    Decimal: Decimal,
    UUID: UUID,
}


@dataclass(frozen=True)
class Page(Generic[T]):
    """One page of rows and the cursor of the next, None on the last."""

    items: Sequence[T]
    next_cursor: str | None = None


def fetch_page(
    session: Session,
    statement: Select[Any],
    *,
    keys: Sequence[Any],
    descending: bool = True,
    cursor: str | None,
    limit: int,
) -> Page[Any]:
    """Fetch the page after `cursor`, ordered by `keys`, in one statement.

    `keys` are columns or labelled expressions that together are unique and not null;
    all go the same way, so that one composite index serves. Raises 400 `invalid_cursor`.
    """
    name = ("-" if descending else "+") + ",".join(key.key for key in keys)
    if cursor is not None:
        after = tuple_(*keys)
        values = _decode(cursor, name, keys)
        statement = statement.where(after < tuple_(*values) if descending else after > tuple_(*values))
    order = [key.desc() if descending else key.asc() for key in keys]
    # The keys are fetched beside the entity: an expression is none of its attributes.
    rows = session.execute(statement.add_columns(*keys).order_by(*order).limit(limit + 1)).all()
    items = [row[0] for row in rows[:limit]]
    return Page(items, _encode(name, rows[limit - 1][-len(keys) :]) if len(rows) > limit else None)


def _encode(name: str, values: Sequence[Any]) -> str:
    plain = [value.isoformat() if isinstance(value, datetime) else str(value) for value in values]
    raw = json.dumps([name, *plain], separators=(",", ":"))
    return base64.urlsafe_b64encode(raw.encode()).decode().rstrip("=")


def _decode(cursor: str, name: str, keys: Sequence[Any]) -> list[Any]:
    """Read a cursor back; it must be of the same order, and each value of its column's type."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        written, *plain = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if written != name or len(plain) != len(keys):
            raise ValueError
        values = [PARSERS[key.type.python_type](text) for key, text in zip(keys, plain, strict=True)]
        if not all(_storable(value) for value in values):
            raise ValueError
        return values
    except (ValueError, TypeError, KeyError, InvalidOperation, binascii.Error, RecursionError) as error:
        raise Refusal(400, "invalid_cursor", "The cursor is not one of this list.") from error


def _storable(value: Any) -> bool:
    """Tell whether PostgreSQL can hold the value: a forged cursor must not become a 500."""
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    if isinstance(value, Decimal):
        return value.is_finite() and abs(value) < 10**15
    if isinstance(value, datetime):
        # In another zone the first and last day of the calendar may lie outside it.
        return value.tzinfo is not None and 1 < value.year < 9999
    return not (isinstance(value, str) and "\0" in value)
