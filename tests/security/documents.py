"""What the four OpenAPI documents describe, and requests made from them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tests.e2e.client import POOL

METHODS = ("get", "post", "put", "patch", "delete")
# What fits the patterns of the documents; the first that does is taken.
WORDS = ("x", "tea", "10.00", "CNY", "+8613800138000", "a" * 12, "a" * 16)


@dataclass(frozen=True)
class Operation:
    """One operation of a service, as its document describes it."""

    service: str
    method: str
    path: str
    facts: Mapping[str, Any]
    document: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Say which one: `POST /api/v1/orders`; what every service has is told apart by its name."""
        line = f"{self.method} {self.path}"
        about = ("/health", "/health/live", "/metrics", "/openapi.json")
        return f"{line} ({self.service})" if self.path in about else line

    @property
    def audience(self) -> str:
        """Who may call it, as declared."""
        return str(self.facts.get("x-audience"))

    @cached_property
    def schema(self) -> Mapping[str, Any] | None:
        """The body's schema, if it takes a body."""
        body = self.facts.get("requestBody")
        return self.resolve(body["content"]["application/json"]["schema"]) if body else None

    def resolve(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """Follow a reference to another schema."""
        while "$ref" in schema:
            schema = self.document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return schema

    def parameters(self, where: str) -> list[Mapping[str, Any]]:
        """List the parameters in `path`, `query` or `header`."""
        return [parameter for parameter in self.facts.get("parameters", []) if parameter["in"] == where]

    def example(self) -> Any:
        """Make the smallest body that the schema allows, or None without one."""
        return None if self.schema is None else self._example(self.schema)

    def _example(self, schema: Mapping[str, Any]) -> Any:
        schema = self.resolve(schema)
        if "anyOf" in schema:
            return self._example(schema["anyOf"][0])
        if "const" in schema or "enum" in schema:
            return schema.get("const", schema.get("enum", [None])[0])
        match schema.get("type"):
            case "object":
                known = schema.get("properties", {})
                return {name: self._example(known[name]) for name in schema.get("required", [])}
            case "array":
                return [self._example(schema["items"]) for _ in range(schema.get("minItems", 1))]
            case "integer" | "number":
                return max(1, schema.get("minimum", 1))
            case "boolean":
                return True
            case "string":
                return example_text(schema)
        raise LookupError(f"{self.name}: no example of {schema}")


def example_text(schema: Mapping[str, Any]) -> str:
    """Make a text that the schema allows."""
    formats = {
        "email": "somebody@example.com",
        "uuid": "019ab0c4-7f5e-7cc3-98c4-dc0c0c073981",
        "date-time": "2026-01-01T00:00:00Z",
    }
    if schema.get("format") in formats:
        return formats[schema["format"]]
    least, most = schema.get("minLength", 0), schema.get("maxLength", 1000)
    pattern = schema.get("pattern", "")
    return next(word for word in WORDS if least <= len(word) <= most and re.search(pattern, word))


def read_document(url: str) -> dict[str, Any]:
    """Fetch the document of a running service."""
    answer = POOL.request("GET", f"{url}/openapi.json")
    assert answer.status == 200
    document: dict[str, Any] = answer.json()
    return document


def operations(service: str, document: Mapping[str, Any]) -> Iterator[Operation]:
    """Yield what a service's document describes."""
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield Operation(service, method.upper(), path, item[method], document)
