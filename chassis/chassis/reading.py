"""Reading a request: its bytes, its JSON, its parameters, and what is wrong with them."""

import json
import re
from typing import Any, TypeVar

from flask import request
from pydantic import BaseModel, ConfigDict, ValidationError

from chassis.errors import Refusal
from chassis.money import NumberLiteral

M = TypeVar("M", bound=BaseModel)
_DECIMAL = re.compile(r"Decimal\('([0-9.]+)'\)")


class Body(BaseModel):
    """A request body: exact JSON types, unknown fields refused."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)


class Query(BaseModel):
    """Query parameters: text is converted, unknown ones are ignored."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)


def read_raw() -> bytes:
    """Return the body's bytes; 413 when there are too many."""
    raw = request.get_data(cache=False)
    if request.content_length is None:
        # Of a body in chunks Werkzeug returns what the limit allows; only who asks for more is refused.
        request.stream.read(1)
    return raw


def read_body(model: type[M]) -> M:
    """Read and validate the JSON body: 413, 415, 400 `invalid_json` or 422."""
    raw = read_raw()
    # Not also its relatives, such as JSON patches, which mean something else.
    is_json = request.mimetype == "application/json"
    if not raw and not is_json:
        return _validated(model, {}, "")
    if not is_json:
        raise Refusal(415, "unsupported_media_type", "The body must be application/json.")
    if not raw and may_be_absent(model):
        return _validated(model, {}, "")
    return _validated(model, parse_json(raw), "")


def may_be_absent(model: type[BaseModel]) -> bool:
    """Tell whether a body has no required field, so that none need be sent."""
    return not any(field.is_required() for field in model.model_fields.values())


def parse_body(model: type[M], raw: bytes) -> M:
    """Parse and validate a body that came as `raw`: 400 `invalid_json` or 422."""
    return _validated(model, parse_json(raw), "")


def parse_json(raw: bytes) -> Any:
    """Parse JSON as UTF-8, keeping the text of each number that is no integer; 400 `invalid_json`."""
    try:
        return json.loads(raw.decode("utf-8"), parse_float=NumberLiteral, parse_constant=_no_constant)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise Refusal(400, "invalid_json", "The body is not valid JSON in UTF-8.") from error


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def read_query(model: type[BaseModel]) -> BaseModel:
    """Validate the query parameters; the first of each name counts."""
    known = {name: value for name, value in request.args.items() if name in model.model_fields}
    return _validated(model, known, "query.")


def _validated(model: type[M], data: Any, prefix: str) -> M:
    errors = [{"field": prefix + where, "message": "must not contain NUL"} for where in nul_fields(data)]
    # Whatever stands in a cursor, it is for the list itself to refuse.
    errors = [error for error in errors if error["field"] != "query.cursor"]
    if not errors:
        try:
            return model.model_validate(data)
        except ValidationError as error:
            errors = [
                {"field": prefix + field_name(e["loc"]), "message": _message(e["type"], e["msg"])}
                for e in error.errors(include_url=False, include_input=False, include_context=False)
            ]
    raise Refusal(422, "validation_error", "The request has invalid values.", errors=errors[:100])


def _message(kind: str, text: str) -> str:
    """Return what pydantic says was wrong, in words for who knows JSON and not our Python."""
    if kind == "model_type":
        return "must be a JSON object"
    return _DECIMAL.sub(r"\1", text.removeprefix("Value error, "))


def field_name(location: tuple[int | str, ...]) -> str:
    """Write pydantic's location as the contract does: `items.0.quantity`."""
    return ".".join(str(part)[:100] for part in location) or "body"


def nul_fields(data: Any) -> list[str]:
    """Return the places of strings with a NUL, which PostgreSQL can't store."""
    found, rest = [], [("", data)]
    while rest:
        where, value = rest.pop()
        if isinstance(value, str):
            if "\0" in value:
                found.append(where or "body")
        elif isinstance(value, dict):
            rest += [(f"{where}.{str(k)[:100]}".lstrip("."), v) for k, v in value.items()]
            rest += [(where, k) for k in value if "\0" in str(k)]
        elif isinstance(value, list):
            rest += [(f"{where}.{i}".lstrip("."), v) for i, v in enumerate(value)]
    return [place.replace("\0", "?") for place in found]
