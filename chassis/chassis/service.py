"""What every service's Flask app has: context, errors, health, metrics, documents, commands."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import redis
from flask import Flask, Response, g, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.proxy_fix import ProxyFix

from chassis import __version__, cli, context, worker
from chassis.api import Api, IdConverter, NameConverter
from chassis.auth import Gate, Peer
from chassis.cache import hit, make_redis
from chassis.config import ServiceSettings
from chassis.db import Database, init_db, is_database_away
from chassis.denied import DenyList
from chassis.errors import (
    COMMON_ERRORS,
    DependencyAway,
    DomainError,
    ErrorTable,
    Refusal,
    lookup,
    problem_response,
    service_unavailable,
)
from chassis.health import check_health, read_gauges
from chassis.keyset import KeySet, fetch_key_set
from chassis.logs import configure_logs, get_logger
from chassis.metrics import init_metrics
from chassis.openapi import Page, build_document
from chassis.tokens import Identity

REQUEST_SECONDS = 5.0
MAX_BODY = 1024 * 1024
QUIET = frozenset({"/health", "/health/live", "/metrics"})

log = get_logger(__name__)


@dataclass
class Chassis:
    """The collaborators of one app, wired in one place; found at `app.extensions["edge"]`."""

    settings: ServiceSettings
    db: Database
    redis: redis.Redis
    gate: Gate
    error_table: ErrorTable
    apis: Sequence[Api] = field(default_factory=list)
    pages: Sequence[Page] = ()

    def session(self) -> Any:
        """Return the request's session."""
        return self.db.session

    def limit(self, method: str, identity: Identity | None) -> None:
        """Count the request against the settings' limits of a minute; 429 when it is one too many."""
        if method == "GET":
            self._limit(self.settings.limit_read_per_address, f"read:{request.remote_addr}")
        elif identity is not None:
            self._limit(self.settings.limit_write_per_user, f"write:{identity.user_id}")

    def _limit(self, most: int, name: str) -> None:
        if not most:
            return
        try:
            count, left = hit(self.redis, name, seconds=60)
        except DependencyAway:
            return
        if count > most:
            raise rate_limited(left)


def rate_limited(seconds: int) -> Refusal:
    """Make the 429 that says when to come back."""
    return Refusal(
        429, "rate_limited", "Too many requests; try again later.", headers={"Retry-After": str(seconds)}
    )


def create_service(
    settings: ServiceSettings,
    db: Database,
    *,
    apis: Sequence[Api],
    error_table: ErrorTable,
    peers: Mapping[str, Peer] | None = None,
    fetch_keys: Callable[[], dict[str, Any]] | None = None,
    pages: Sequence[Page] = (),
    import_name: str,
) -> Flask:
    """Build a service's Flask app; `peers` are the services that may call it, by name.

    `fetch_keys` replaces asking the user service for its public keys (in the user service itself);
    `pages` describes what the service shows beside its API.
    """
    app = _App(import_name, static_folder=None)
    app.config["SETTINGS"] = settings
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.url_map.converters.update(id=IdConverter, name=NameConverter)
    app.url_map.strict_slashes = True
    app.url_map.merge_slashes = False
    configure_logs(settings)
    init_db(app, db, settings)
    client = make_redis(settings)
    keys = KeySet(fetch_keys or (lambda: fetch_key_set(settings, client)))
    gate = Gate(settings, keys, DenyList(client), peers or {})
    edge = Chassis(settings, db, client, gate, {**COMMON_ERRORS, **error_table}, apis, pages)
    app.extensions["edge"] = edge
    _handle_errors(app, edge)
    # A service may add its own.
    app.extensions["gauges"] = read_gauges(app, db)
    init_metrics(app, app.extensions["gauges"])
    for api in apis:
        api.register(app)
    _serve_about(app, edge)
    _finish_answers(app)
    cli.register_commands(app)
    worker.register_commands(app)
    # Nginx overwrites these headers, so exactly one proxy is to be believed.
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=0)  # type: ignore[method-assign]
    return app


class _App(Flask):
    def wsgi_app(self, environ: Any, start_response: Any) -> Any:
        """Serve one request inside its context: request id, trace and deadline."""
        with context.bind_context(
            request_id=environ.get("HTTP_X_REQUEST_ID"),
            traceparent=environ.get("HTTP_TRACEPARENT"),
            seconds=REQUEST_SECONDS,
        ):
            return super().wsgi_app(environ, start_response)


def _finish_answers(app: Flask) -> None:
    @app.after_request
    def finish(response: Response) -> Response:
        response.headers["X-Request-ID"] = context.request_id.get()
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("Cache-Control", "no-store")
        if request.path not in QUIET:
            log.info(
                "request served",
                method=request.method,
                route=request.url_rule.rule if request.url_rule else None,
                path=request.path[:200],
                status=response.status_code,
                user_id=g.identity.user_id if "identity" in g else None,
            )
        return response


def _handle_errors(app: Flask, edge: Chassis) -> None:
    @app.errorhandler(DomainError)
    def domain_error(error: DomainError) -> ResponseReturnValue:
        status, code = lookup(error, edge.error_table)
        return problem_response(status, code, str(error), error.members, error.headers)

    @app.errorhandler(Refusal)
    def refusal(error: Refusal) -> ResponseReturnValue:
        return problem_response(error.status, error.code, str(error), error.members, error.headers)

    @app.errorhandler(DependencyAway)
    def dependency_away(error: DependencyAway) -> ResponseReturnValue:
        log.warning("dependency away", dependency=error.dependency)
        return refusal(service_unavailable(error.dependency.capitalize()))

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> ResponseReturnValue:
        if error.response is not None:
            return error.response
        status = error.code or 500
        code, detail = HTTP_ERRORS.get(status, ("bad_request", "The request can't be served."))
        kept = {k: v for k, v in error.get_headers() if k in ("Allow", "Retry-After")}
        return problem_response(status, code, detail, headers=kept)

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> ResponseReturnValue:
        edge.db.leave_session()
        if is_database_away(error):
            return dependency_away(DependencyAway("database"))
        log.exception("request failed", exc_info=error)
        return problem_response(500, "internal_error", "Something went wrong on our side.")


HTTP_ERRORS = {
    400: ("bad_request", "The request can't be understood."),
    404: ("not_found", "There is nothing here."),
    405: ("method_not_allowed", "This method is not known here."),
    408: ("request_timeout", "The request took too long to arrive."),
    413: ("payload_too_large", "The body is too large."),
    415: ("unsupported_media_type", "The body must be application/json."),
    500: ("internal_error", "Something went wrong on our side."),
}


def _serve_about(app: Flask, edge: Chassis) -> None:
    """Add health and the OpenAPI document."""

    @app.get("/health")
    def health() -> Response:
        status, body = check_health(app, edge.db, edge.redis, edge.settings.service, __version__)
        return Response(orjson.dumps(body), status=status, content_type="application/json")

    @app.get("/health/live")
    def live() -> Response:
        return Response(orjson.dumps({"status": "ok"}), content_type="application/json")

    @app.get("/openapi.json")
    def openapi() -> Response:
        if "openapi" not in app.extensions:
            document = build_document(
                edge.settings.service, __version__, edge.apis, edge.error_table, edge.pages
            )
            app.extensions["openapi"] = orjson.dumps(document)
        return Response(app.extensions["openapi"], content_type="application/json")
