"""Money is exact: a string or a JSON number with at most two decimals."""

from decimal import Decimal
from typing import Annotated

import pytest
from pydantic import Field, ValidationError

from chassis.api import View
from chassis.errors import Refusal
from chassis.money import MoneyIn, MoneyOut
from chassis.reading import Body, parse_body, parse_json


class Priced(Body):
    price: MoneyIn


class Shown(View):
    price: MoneyOut


@pytest.mark.parametrize(
    ("written", "amount"),
    [('"19.90"', "19.90"), ("19.9", "19.9"), ("19", "19"), ('"0.01"', "0.01"), ("9999999.99", "9999999.99")],
)
def test_takes_a_string_or_a_number(written: str, amount: str) -> None:
    body = Priced.model_validate(parse_json(b'{"price": %s}' % written.encode()))
    assert body.price == Decimal(amount)
    assert type(body.price) is Decimal


def test_equal_amounts_are_equal_text_however_they_were_written() -> None:
    written = [b"5", b"5.0", b'"5"', b'"5.00"']
    bodies = [Priced.model_validate(parse_json(b'{"price": %s}' % amount)) for amount in written]
    assert {body.model_dump_json() for body in bodies} == {'{"price":"5.00"}'}


EXPONENTS = ["1e2", "1.0e1", '"1e2"']
TOO_FINE_OR_TOO_LARGE = ["1.999", '"1.999"', "0.100", "1234567890123"]
NO_AMOUNTS = ["-1", '"+1"', '"1,00"', '"١٢"', '"01.00"', '" 1"', '"1."', '""', "true", "null", "[]"]


@pytest.mark.parametrize("written", [*EXPONENTS, *TOO_FINE_OR_TOO_LARGE, *NO_AMOUNTS])
def test_refuses_what_is_no_amount(written: str) -> None:
    with pytest.raises(ValidationError):
        Priced.model_validate(parse_json(b'{"price": %s}' % written.encode()))


class Bounded(Body):
    price: Annotated[MoneyIn, Field(ge=Decimal("0.01"), le=Decimal("9999999.99"))]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"price": "0.00"}', "Input should be greater than or equal to 0.01"),
        (b'{"price": 10000000}', "Input should be less than or equal to 9999999.99"),
        (b"[]", "must be a JSON object"),
    ],
)
def test_a_refusal_speaks_of_json_and_not_of_python(body: bytes, message: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse_body(Bounded, body)
    assert [error["message"] for error in refused.value.members["errors"]] == [message]


def test_shows_two_decimals_whatever_went_in() -> None:
    assert Shown(price=Decimal("5")).model_dump_json() == '{"price":"5.00"}'
    assert Shown(price=Decimal("1E+3")).model_dump_json() == '{"price":"1000.00"}'
