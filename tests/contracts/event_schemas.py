"""Load the events' JSON Schemas: `schemas/<type>.json` is what its producer promises and consumers need."""

import json
from functools import cache
from pathlib import Path

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

FOLDER = Path(__file__).parent / "schemas"
EVENT_TYPES = sorted(path.stem for path in FOLDER.glob("*.json"))


@cache
def registry() -> Registry:
    """Read every schema once, found by its `$id`."""
    resources = [Resource.from_contents(json.loads(path.read_text())) for path in FOLDER.rglob("*.json")]
    return resources @ Registry()


def schema(event_type: str) -> dict:
    """Return the schema of one event type."""
    return json.loads((FOLDER / f"{event_type}.json").read_text())


def examples(event_type: str) -> list[dict]:
    """Return the sample events that the schema itself gives."""
    return schema(event_type)["examples"]


@cache
def validator(event_type: str) -> Draft202012Validator:
    """Return a validator for whole events of one type, formats included."""
    return Draft202012Validator(
        schema(event_type), registry=registry(), format_checker=Draft202012Validator.FORMAT_CHECKER
    )


def problems(event: dict) -> list[str]:
    """List what is wrong with an event by the schema of its type, each with its place."""
    return [f"{error.json_path}: {error.message}" for error in validator(event["type"]).iter_errors(event)]


def data_fields(event_type: str) -> set[str]:
    """Name the fields that `data` of this event always has."""
    data = schema(event_type)["properties"]["data"]
    parts = [registry()[f"https://events.example/{part['$ref']}"].contents for part in data.get("allOf", [])]
    return {field for part in [data, *parts] for field in part.get("required", [])}
