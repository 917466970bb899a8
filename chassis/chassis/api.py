"""The edge: each route says who may call, what it takes and what it answers; the same words make its OpenAPI.

A request passes: who → rate limit → idempotency key → media type and JSON → schema → handler.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from flask import Blueprint, Flask, Response, current_app, g, request
from pydantic import BaseModel, ConfigDict
from werkzeug.routing import BaseConverter, IntegerConverter

from chassis.auth import Gate
from chassis.errors import DependencyAway, DomainError, ErrorTable, Refusal, lookup, problem_response
from chassis.idempotency import (
    REMEMBERED_REFUSALS,
    ClaimLost,
    Once,
    Replayed,
    checked_key,
    fingerprint,
)
from chassis.reading import read_body, read_query, read_raw
from chassis.tokens import Identity

Who = Literal["anyone", "optional", "user", "admin", "service"]


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


class Edge(Protocol):
    """What the edge needs of the running app; `service.py` makes it."""

    gate: Gate
    error_table: ErrorTable

    def session(self) -> Any: ...
    def limit(self, method: str, identity: Identity | None) -> None: ...


class Api:
    """Routes of one resource; the page of the documents shows them under its name."""

    def __init__(self, name: str, prefix: str = "/api/v1") -> None:
        self.name = name
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
            given["body"] = read_body(route.body)
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
        return _answer_as_the_other(session, once)
    except DomainError as error:
        session.rollback()
        status, code = lookup(error, edge.error_table)
        if status not in REMEMBERED_REFUSALS:
            once.free(session)
            raise
        response = problem_response(status, code, str(error), error.members, error.headers)
        try:
            once.remember_refusal(session, status, response.get_data())
        except ClaimLost:
            return _answer_as_the_other(session, once)
        return response
    except BaseException:
        session.rollback()
        once.free(session)
        raise


def _answer_as_the_other(session: Any, once: Once) -> Response:
    """Answer what the request answers, or will, that has the key now."""
    session.rollback()
    standing = once.standing(session)
    if isinstance(standing, Replayed):
        return _replay(standing)
    raise standing


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
