"""Errors that every service may raise, and the problem document they become (RFC 9457).

    DomainError                      a rule of the business says no; knows no HTTP
    ├── NotFound                     what the path names is not there, or not for this caller
    └── Invalid(field, message)      a value that only the business can judge
    Refusal                          the edge says no, before any use-case ran
    DependencyAway                   something needed is away; nothing was changed

Each service adds its own subclasses of DomainError and one table class → (status, code).
"""

import http
from collections.abc import Mapping
from typing import Any, ClassVar

from flask import Response, json

from chassis import context

PROBLEM_JSON = "application/problem+json"


class DomainError(Exception):
    """A rule of the business says no.

    Keyword arguments become further members of the problem document, which `member_schemas` describes by
    name; `retry_after` says after how many seconds it may say yes.
    """

    detail: ClassVar[str] = ""
    member_schemas: ClassVar[Mapping[str, Any]] = {}
    retry_after: ClassVar[int | None] = None

    def __init__(self, detail: str | None = None, **members: Any) -> None:
        super().__init__(detail or self.detail or type(self).__name__)
        self.members = members

    @property
    def headers(self) -> dict[str, str]:
        """The answer's further headers."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


def lines_schema(description: str, *names: str) -> dict[str, Any]:
    """Describe a member that is a list of objects with these integers."""
    line = {
        "type": "object",
        "properties": {name: {"type": "integer"} for name in names},
        "required": [*names],
    }
    return {"type": "array", "description": description, "items": line}


class NotFound(DomainError):
    detail = "There is nothing here."


class Invalid(DomainError):
    """A value that passed the schema but that the business refuses."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__("The request has invalid values.", errors=[{"field": field, "message": message}])


class Refusal(Exception):
    """The edge says no, before any use-case ran."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.headers, self.members = status, code, dict(headers or {}), members


class DependencyAway(Exception):
    """Something that the request can't do without does not answer; nothing was changed."""

    def __init__(self, dependency: str) -> None:
        super().__init__(f"{dependency} is away")
        self.dependency = dependency


ErrorTable = Mapping[type[DomainError], tuple[int, str]]

COMMON_ERRORS: ErrorTable = {
    NotFound: (404, "not_found"),
    Invalid: (422, "validation_error"),
}


def unauthorized(detail: str = "A valid access token is needed.") -> Refusal:
    """Make the 401 of every route that needs a token."""
    return Refusal(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


def service_unavailable(dependency: str = "A dependency") -> Refusal:
    """Make the 503 of a request that can't do without something that is away."""
    return Refusal(
        503, "service_unavailable", f"{dependency} is away; try again soon.", headers={"Retry-After": "2"}
    )


def lookup(error: DomainError, table: ErrorTable) -> tuple[int, str]:
    """Find status and code of an error by its class or the nearest base in the table."""
    for kind in type(error).__mro__:
        if kind in table:
            return table[kind]
    raise LookupError(f"{type(error).__name__} is in no error table") from error


def problem(status: int, code: str, detail: str, members: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Build the problem document."""
    return {
        "type": "about:blank",
        "title": http.HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": context.request_id.get(),
        **(members or {}),
    }


def problem_response(
    status: int,
    code: str,
    detail: str,
    members: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Build the answer that carries a problem document."""
    return Response(
        json.dumps(problem(status, code, detail, members), separators=(",", ":")),
        status=status,
        headers=dict(headers or {}),
        content_type=PROBLEM_JSON,
    )
