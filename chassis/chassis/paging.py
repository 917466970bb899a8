"""Keyset paging: page 10,000 costs what page 1 costs."""

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
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
    raw = json.dumps([name, *map(_write, values)], separators=(",", ":"))
    return base64.urlsafe_b64encode(raw.encode()).decode().rstrip("=")


def _write(value: Any) -> str:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else str(value)


def _decode(cursor: str, name: str, keys: Sequence[Any]) -> list[Any]:
    """Read a cursor back; it must be what `_encode` writes of this order, and PostgreSQL able to hold it."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        _, *plain = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        values = [_parse(key, text) for key, text in zip(keys, plain, strict=True)]
        # Python reads numbers and times in more spellings than PostgreSQL has a place for.
        if _encode(name, values) != cursor or not all(map(_storable, values)):
            raise ValueError
        return values
    except (ValueError, TypeError, KeyError, ArithmeticError, RecursionError) as error:
        raise Refusal(400, "invalid_cursor", "The cursor is not one of this list.") from error


def _parse(key: Any, text: Any) -> Any:
    if not isinstance(text, str):
        raise TypeError
    return PARSERS[key.type.python_type](text)


def _storable(value: Any) -> bool:
    """Tell whether PostgreSQL can hold the value: a forged cursor must not become a 500."""
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Decimal):
        # Not compared with a bound: arithmetic on a great exponent is an error of its own.
        return value.is_finite() and abs(value.adjusted()) < 15 and len(value.as_tuple().digits) <= 30
    return not isinstance(value, str) or b"\0" not in value.encode()
