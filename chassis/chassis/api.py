"""The edge: each route says who may call, what it takes and what it answers; the same words make its OpenAPI.

A request passes: who → rate limit → idempotency key → media type and JSON → schema → handler.
"""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

from flask import Blueprint, Flask, Response, current_app, g, request
from pydantic import BaseModel, ConfigDict, ValidationError
from werkzeug.routing import BaseConverter, IntegerConverter

from chassis.auth import Gate, Identity
from chassis.errors import DependencyAway, DomainError, ErrorTable, Refusal, lookup, problem_response
from chassis.idempotency import (
    REMEMBERED_REFUSALS,
    ClaimLost,
    Once,
    Replayed,
    checked_key,
    fingerprint,
)
from chassis.money import NumberLiteral

Who = Literal["anyone", "optional", "user", "admin", "service"]
M = TypeVar("M", bound=BaseModel)


class Body(BaseModel):
    """A request body: exact JSON types, unknown fields refused."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)


class Query(BaseModel):
    """Query parameters: text is converted, unknown ones are ignored."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)


class View(BaseModel):
    """An answer, read from a model object, a dataclass or a dict."""

    model_config = ConfigDict(from_attributes=True)


@dataclass(frozen=True)
class Answer:
    """What a handler returns when status or headers differ from the route's first answer."""

    status: int
    value: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


class IdConverter(IntegerConverter):
    """An integer id; what no PostgreSQL bigint holds is 404, as any unknown id."""

    regex = r"[1-9][0-9]{0,17}"


class NameConverter(BaseConverter):
    """A short lower-case name, such as a payment method."""

    regex = r"[a-z0-9_-]{1,40}"


@dataclass(frozen=True)
class Route:
    """One operation: what the decorator said of it."""

    method: str
    path: str
    handler: Callable[..., Any]
    who: Who
    scope: str
    body: type[BaseModel] | None
    query: type[BaseModel] | None
    answers: Mapping[int, type[BaseModel] | None]
    errors: Sequence[type[DomainError]]
    refusals: Mapping[int, Sequence[str]]
    idempotent: bool
    headers: Sequence[str]
    raw_body: type[BaseModel] | None
    parameters: frozenset[str]

    @property
    def body_may_be_absent(self) -> bool:
        """Tell whether the body has no required field."""
        return self.body is not None and not any(f.is_required() for f in self.body.model_fields.values())


class Edge(Protocol):
    """What the edge needs of the running app; `service.py` makes it."""

    gate: Gate
    error_table: ErrorTable

    def session(self) -> Any: ...
    def limit(self, method: str, identity: Identity | None) -> None: ...


class Api:
    """The routes of one service."""

    def __init__(self, name: str, prefix: str = "/api/v1") -> None:
        self.blueprint = Blueprint(name, name, url_prefix=prefix or None)
        self.prefix = prefix
        self.routes: list[Route] = []

    def get(self, path: str, **kwargs: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Declare a GET route."""
        return self.route("GET", path, **kwargs)

    def post(self, path: str, **kwargs: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Declare a POST route."""
        return self.route("POST", path, **kwargs)

    def put(self, path: str, **kwargs: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Declare a PUT route."""
        return self.route("PUT", path, **kwargs)

    def patch(self, path: str, **kwargs: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Declare a PATCH route."""
        return self.route("PATCH", path, **kwargs)

    def delete(self, path: str, **kwargs: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Declare a DELETE route."""
        return self.route("DELETE", path, **kwargs)

    def route(
        self,
        method: str,
        path: str,
        *,
        who: Who,
        answers: Mapping[int, type[BaseModel] | None],
        body: type[BaseModel] | None = None,
        query: type[BaseModel] | None = None,
        errors: Sequence[type[DomainError]] = (),
        refusals: Mapping[int, Sequence[str]] | None = None,
        scope: str = "",
        idempotent: bool = False,
        headers: Sequence[str] = (),
        raw_body: type[BaseModel] | None = None,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Declare a route: the handler names what it wants of `body`, `query`, `user`, `once` and the path.

        `answers` maps each good status to its model, the first being the usual one; `errors`
        are the domain errors the use-case raises, `refusals` further codes by status, `headers`
        the further request headers that the handler reads itself. With `raw_body` the handler takes the
        bytes as `raw`, because a signature covers them; the model is what `parse_body` makes of them later.
        """

        def declare(handler: Callable[..., Any]) -> Callable[..., Any]:
            wanted = frozenset(inspect.signature(handler).parameters)
            route = Route(
                method,
                path,
                handler,
                who,
                scope,
                body,
                query,
                answers,
                errors,
                refusals or {},
                idempotent,
                headers,
                raw_body,
                wanted,
            )
            self.routes.append(route)
            # Flask keeps the dot in an endpoint's name for itself.
            endpoint = f"{method} {path}".replace(".", "-")
            self.blueprint.add_url_rule(
                path, endpoint, _view(route), methods=[method], provide_automatic_options=True
            )
            return handler

        return declare

    def register(self, app: Flask) -> None:
        """Add the routes to the app."""
        app.register_blueprint(self.blueprint)


def _view(route: Route) -> Callable[..., Response]:
    def view(**path: Any) -> Response:
        edge: Edge = current_app.extensions["edge"]
        identity = _identify(edge, route)
        # Limits are for clients; another service asks on behalf of many, and from one address.
        if route.who != "service":
            edge.limit(route.method, identity)
        given: dict[str, Any] = dict(path)
        if "user" in route.parameters:
            given["user"] = identity
        key = checked_key(request.headers.get("Idempotency-Key")) if route.idempotent else None
        if route.body is not None:
            given["body"] = read_body(route)
        if route.raw_body is not None:
            given["raw"] = read_raw()
        if route.query is not None:
            given["query"] = read_query(route.query)
        if not route.idempotent:
            return _answer(route, route.handler(**given))
        assert identity is not None
        canonical = given["body"].model_dump_json().encode() if route.body is not None else b""
        once = Once(
            identity.user_id,
            key,
            fingerprint(request.method, request.path, canonical),
            lambda status, value: _render(route, status, value) or "",
        )
        return _run_once(edge, route, once, {**given, "once": once})

    return view


def _identify(edge: Edge, route: Route) -> Identity | None:
    authorization = request.headers.get("Authorization")
    if route.who == "anyone":
        return None
    if route.who == "service":
        edge.gate.check_service(authorization, route.scope)
        return None
    try:
        identity = edge.gate.identify(authorization)
    except (Refusal, DependencyAway):
        # Who only looks around is served with a stale token, or while no key can be had.
        if route.who == "optional":
            return None
        raise
    g.identity = identity
    if route.who == "admin" and not identity.is_admin:
        raise Refusal(403, "forbidden", "This needs an administrator.")
    return identity


def _run_once(edge: Edge, route: Route, once: Once, given: dict[str, Any]) -> Response:
    """Run the handler under its idempotency key: replay, remember or free it."""
    session = edge.session()
    try:
        # Before the use-case says anything: a reply is given again whatever has changed since.
        once.replay(session)
        return _answer(route, route.handler(**given))
    except Replayed as replay:
        return _replay(replay)
    except ClaimLost:
        session.rollback()
        standing = once.standing(session)
        if isinstance(standing, Replayed):
            return _replay(standing)
        raise standing from None
    except DomainError as error:
        session.rollback()
        status, code = lookup(error, edge.error_table)
        if status not in REMEMBERED_REFUSALS:
            once.free(session)
            raise
        response = problem_response(status, code, str(error), error.members, error.headers)
        once.remember_refusal(session, status, response.get_data())
        return response
    except BaseException:
        session.rollback()
        once.free(session)
        raise


def _replay(replay: Replayed) -> Response:
    assert replay.status is not None
    response = Response(replay.body, status=replay.status, content_type="application/json")
    if replay.status >= 400:
        response.content_type = "application/problem+json"
    response.headers["Idempotent-Replayed"] = "true"
    if replay.location:
        response.headers["Location"] = replay.location
    return response


def _answer(route: Route, returned: Any) -> Response:
    if isinstance(returned, Response):
        return returned
    if not isinstance(returned, Answer):
        returned = Answer(next(iter(route.answers)), returned)
    text = _render(route, returned.status, returned.value)
    return Response(
        text, status=returned.status, headers=dict(returned.headers), content_type="application/json"
    )


def _render(route: Route, status: int, value: Any) -> str | None:
    model = route.answers[status]
    if model is None:
        return None
    view = value if isinstance(value, model) else model.model_validate(value, from_attributes=True)
    return view.model_dump_json()


def read_raw() -> bytes:
    """Return the body's bytes; 413 when there are too many."""
    raw = request.get_data(cache=False)
    if request.content_length is None:
        # Of a body in chunks Werkzeug returns what the limit allows; only who asks for more is refused.
        request.stream.read(1)
    return raw


def read_body(route: Route) -> BaseModel:
    """Read and validate the JSON body: 413, 415, 400 `invalid_json` or 422."""
    assert route.body is not None
    raw = read_raw()
    if not raw and not request.is_json:
        return _validated(route.body, {}, "")
    if not request.is_json:
        raise Refusal(415, "unsupported_media_type", "The body must be application/json.")
    if not raw and route.body_may_be_absent:
        return _validated(route.body, {}, "")
    return _validated(route.body, parse_json(raw), "")


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
                {"field": prefix + field_name(e["loc"]), "message": e["msg"].removeprefix("Value error, ")}
                for e in error.errors(include_url=False, include_input=False, include_context=False)
            ]
    raise Refusal(422, "validation_error", "The request has invalid values.", errors=errors[:100])


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
