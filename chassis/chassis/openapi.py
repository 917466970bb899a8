"""OpenAPI 3.1, made from the routes as they validate."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from chassis.api import Api, Route
from chassis.errors import PROBLEM_JSON, ErrorTable
from chassis.idempotency import REMEMBERED_REFUSALS
from chassis.reading import may_be_absent

REF = "#/components/schemas/{model}"
PATH_TYPES = {
    "id": {"type": "integer", "minimum": 1, "maximum": 999999999999999999},
    "uuid": {"type": "string", "format": "uuid"},
    "name": {"type": "string", "pattern": "^[a-z0-9_-]{1,40}$"},
}
TEXT: dict[str, Any] = {"type": "string"}
ANSWER_HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-ID": {"description": "The client's own, or one that was made.", "schema": TEXT},
    "Location": {"description": "Where what was made is.", "schema": TEXT},
    "ETag": {"description": "The version, for If-None-Match and If-Match.", "schema": TEXT},
    "WWW-Authenticate": {"description": "How to sign in.", "schema": TEXT},
    "Retry-After": {
        "description": "Seconds to wait before trying again.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "Idempotent-Replayed": {
        "description": "The answer was given before under this key.",
        "schema": {"type": "string", "const": "true"},
    },
}
KEY_SCHEMA: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"}
SECURITY = {
    "user": "accessToken",
    "admin": "accessToken",
    "optional": "accessToken",
    "service": "serviceToken",
}


@dataclass(frozen=True)
class Page:
    """What a service shows of itself to everybody, outside its API: where, what, in which media types."""

    path: str
    summary: str
    kinds: Sequence[str]
    statuses: Sequence[int]
    schema: Any = None


class FieldError(BaseModel):
    """One value that was refused."""

    field: str
    message: str


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable; tell cases apart by this.")
    request_id: str
    errors: list[FieldError] | None = None


class Health(BaseModel):
    """How the service is, and each thing that it needs: `ok` or what is wrong with it."""

    status: Literal["ok", "degraded"]
    service: str
    version: str
    checks: dict[str, str]


class Alive(BaseModel):
    """The process serves."""

    status: Literal["ok"]


def build_document(
    title: str, version: str, apis: Iterable[Api], table: ErrorTable, pages: Sequence[Page] = ()
) -> dict[str, Any]:
    """Build the whole document of one service; `pages` are what it shows beside its API.

    Each operation says in `x-audience` who may call it, as its route does, and in `x-scope` what a
    service's token must be for. A page shows them by tag and in this order: operators' own come last.
    """
    pairs = [(api, route) for api in apis for route in api.routes]
    models: set[tuple[type[BaseModel], str]] = {(own, "serialization") for own in (Problem, Health, Alive)}
    for _, route in pairs:
        models |= {(model, "serialization") for model in route.answers.values() if model}
        models |= {(model, "validation") for model in (route.body, route.raw_body) if model}
    ordered = sorted(models, key=lambda pair: (pair[0].__name__, pair[1]))
    refs, schemas = models_json_schema(ordered, ref_template=REF)  # type: ignore[arg-type]
    paths: dict[str, dict[str, Any]] = {}
    for api, route in pairs:
        path, parameters = _path(api.prefix + route.path)
        operation = {"tags": [_tag(api, route)], **_operation(route, parameters, refs, table)}
        paths.setdefault(path, {})[route.method.lower()] = operation
    paths |= {page.path: {"get": _told(page, refs)} for page in (*_about(refs), *pages)}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas.get("$defs", {}),
            "headers": ANSWER_HEADERS,
            "securitySchemes": {
                "accessToken": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "serviceToken": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            },
        },
    }


def _tag(api: Api, route: Route) -> str:
    """Return the heading under which a page shows the route."""
    return "internal" if route.who == "service" else api.name


def _about(refs: dict[Any, Any]) -> list[Page]:
    """Describe what every service tells of itself."""
    health, alive = (refs[(model, "serialization")] for model in (Health, Alive))
    json = ("application/json",)
    return [
        Page("/health", "Tell whether the service can serve.", json, (200, 503), health),
        Page("/health/live", "Tell that the process serves.", json, (200,), alive),
        Page("/metrics", "Show metrics for Prometheus.", ("text/plain",), (200,), {"type": "string"}),
        Page("/openapi.json", "Show this document.", json, (200,), {"type": "object"}),
    ]


def _told(page: Page, refs: dict[Any, Any]) -> dict[str, Any]:
    content = {kind: {"schema": page.schema} if page.schema else {} for kind in page.kinds}
    contents = {
        status: {PROBLEM_JSON: {"schema": refs[(Problem, "serialization")]}} if status == 404 else content
        for status in page.statuses
    }
    return {
        "tags": ["operations"],
        # With a slash at the end it is another page, under another id.
        "operationId": "get_" + re.sub(r"\W", "_", page.path.removeprefix("/")),
        "summary": page.summary,
        "x-audience": "anyone",
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": TEXT}
            for name in re.findall(r"\{(\w+)\}", page.path)
        ],
        "responses": {
            str(status): {
                "description": page.summary if status != 404 else "`not_found`",
                "headers": {"X-Request-ID": {"$ref": "#/components/headers/X-Request-ID"}},
                **({"content": content} if content else {}),
            }
            for status, content in contents.items()
        },
    }


def _path(rule: str) -> tuple[str, list[dict[str, Any]]]:
    """Turn `/orders/<uuid:order_id>` into `/orders/{order_id}` and its parameters."""
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": PATH_TYPES[kind]}
        for kind, name in re.findall(r"<(\w+):(\w+)>", rule)
    ]
    return re.sub(r"<\w+:(\w+)>", r"{\1}", rule), parameters


def _operation(
    route: Route, parameters: list[dict[str, Any]], refs: dict[Any, Any], table: ErrorTable
) -> dict[str, Any]:
    doc = (route.handler.__doc__ or route.handler.__name__).strip()
    operation: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "summary": doc.splitlines()[0],
        "description": doc,
        "x-audience": route.who,
        "parameters": parameters + _query_parameters(route) + _header_parameters(route),
        "responses": _responses(route, refs, table, bool(parameters)),
    }
    if route.who in SECURITY:
        operation["security"] = [{SECURITY[route.who]: []}]
        if route.who == "optional":
            operation["security"].append({})
    if route.scope:
        operation["x-scope"] = route.scope
    if body := route.body or route.raw_body:
        operation["requestBody"] = {
            "required": route.body is None or not may_be_absent(route.body),
            "content": {"application/json": {"schema": refs[(body, "validation")]}},
        }
    return operation


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    schema = route.query.model_json_schema(ref_template=REF)
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", []),
            "schema": _without_null(value),
        }
        for name, value in schema.get("properties", {}).items()
    ]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Drop the null of an optional parameter: a query string can't say it."""
    kept = [option for option in schema.get("anyOf", []) if option.get("type") != "null"]
    rest = {
        k: v for k, v in schema.items() if k not in ("anyOf", "default") or (k == "default" and v is not None)
    }
    return {**rest, **kept[0]} if len(kept) == 1 else ({**rest, "anyOf": kept} if kept else rest)


def _header_parameters(route: Route) -> list[dict[str, Any]]:
    wanted = [(name, {"type": "string"}) for name in route.headers]
    if route.idempotent:
        wanted.append(("Idempotency-Key", KEY_SCHEMA))
    return [{"name": name, "in": "header", "required": False, "schema": schema} for name, schema in wanted]


def _responses(route: Route, refs: dict[Any, Any], table: ErrorTable, has_path: bool) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, model in route.answers.items():
        response: dict[str, Any] = {
            "description": "Done." if status != 202 else "Taken; it finishes later.",
            "headers": _headers(route, status),
        }
        if model:
            response["content"] = {"application/json": {"schema": refs[(model, "serialization")]}}
        responses[str(status)] = response
    for status, codes in sorted(_codes(route, table, has_path).items()):
        responses[str(status)] = {
            "description": ", ".join(f"`{code}`" for code in sorted(codes)),
            "headers": _headers(route, status),
            "content": {PROBLEM_JSON: {"schema": _problem(route, status, table, refs)}},
        }
    return responses


def _problem(route: Route, status: int, table: ErrorTable, refs: dict[Any, Any]) -> dict[str, Any]:
    """Describe the problem document, with what the route's own errors tell besides."""
    known: dict[str, Any] = refs[(Problem, "serialization")]
    own = (error.member_schemas for error in route.errors if table[error][0] == status)
    members = {name: schema for schemas in own for name, schema in schemas.items()}
    return {"allOf": [known], "properties": members} if members else known


def _headers(route: Route, status: int) -> dict[str, Any]:
    """Name the headers that an answer of this status may carry."""
    names = ["X-Request-ID"]
    if status == 201:
        names.append("Location")
    if status in (200, 304) and "If-None-Match" in route.headers:
        names.append("ETag")
    if status == 401:
        names.append("WWW-Authenticate")
    if status in (429, 503) or (status == 409 and route.idempotent):
        names.append("Retry-After")
    if route.idempotent and (status < 300 or status in REMEMBERED_REFUSALS):
        names.append("Idempotent-Replayed")
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _codes(route: Route, table: ErrorTable, has_path: bool) -> dict[int, set[str]]:
    """Collect every refusal of the route: its own, and those that the edge makes by itself."""
    codes: dict[int, set[str]] = {
        429: {"rate_limited"},
        500: {"internal_error"},
        503: {"service_unavailable"},
    }

    def add(status: int, *names: str) -> None:
        codes.setdefault(status, set()).update(names)

    for error in route.errors:
        add(table[error][0], table[error][1])
    for status, names in route.refusals.items():
        add(status, *names)
    if route.who in ("user", "admin", "service"):
        add(401, "unauthorized")
    if route.who == "admin":
        add(403, "forbidden")
    if has_path:
        add(404, "not_found")
    if route.body or route.raw_body:
        add(400, "invalid_json")
        add(413, "payload_too_large")
        add(422, "validation_error")
    if route.body:
        add(415, "unsupported_media_type")
    if route.query:
        add(422, "validation_error")
        if "cursor" in route.query.model_fields:
            add(400, "invalid_cursor")
    if route.idempotent:
        add(400, "invalid_idempotency_key")
        add(409, "idempotency_in_progress")
        add(422, "idempotency_key_reused")
    return codes
