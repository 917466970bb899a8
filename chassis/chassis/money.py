"""Money on the wire: a string with two decimals, never a binary float inside."""

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError
from sqlalchemy import Numeric

CENT = Decimal("0.01")
PRICE_COLUMN = Numeric(9, 2)
SUM_COLUMN = Numeric(14, 2)

_LITERAL = re.compile(r"(0|[1-9][0-9]{0,11})(\.[0-9]{1,2})?\Z", re.ASCII)


class NumberLiteral(Decimal):
    """A JSON number that is no integer, with the text it was written as."""

    text: str

    def __new__(cls, text: str) -> "NumberLiteral":
        number = super().__new__(cls, text)
        number.text = text
        return number


def _parse(value: Any) -> Decimal:
    if isinstance(value, Decimal) and not isinstance(value, NumberLiteral):
        return value
    text = value.text if isinstance(value, NumberLiteral) else value
    if isinstance(text, int) and not isinstance(text, bool):
        text = str(text)
    if not isinstance(text, str) or not _LITERAL.match(text):
        raise PydanticCustomError("money", "must be an amount with at most two decimals, such as 19.90")
    # However it was written, equal amounts are equal text: an idempotency key's body is compared as parsed.
    return Decimal(text).quantize(CENT)


_INPUT_SCHEMA = {
    "anyOf": [
        {"type": "string", "pattern": r"^(0|[1-9][0-9]{0,11})(\.[0-9]{1,2})?$"},
        {"type": "number", "minimum": 0, "multipleOf": 0.01},
    ],
    "examples": ["19.90"],
}
OUTPUT_SCHEMA: dict[str, Any] = {"type": "string", "pattern": r"^[0-9]+\.[0-9]{2}$", "examples": ["19.90"]}

# In requests; add bounds with `Field(ge=…, le=…)`.
MoneyIn = Annotated[Decimal, BeforeValidator(_parse), WithJsonSchema(_INPUT_SCHEMA)]
# In answers and events.
MoneyOut = Annotated[Decimal, PlainSerializer(lambda value: f"{value:.2f}"), WithJsonSchema(OUTPUT_SCHEMA)]


def show_money(amount: Decimal) -> str:
    """Write an amount as the contract does: two decimals, no exponent."""
    return f"{amount:.2f}"
