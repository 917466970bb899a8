"""A client of the shop's HTTP interface that checks, on every answer, what holds for all of them."""

import json as jsonlib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import urllib3

T = TypeVar("T")
API = "/api/v1"
NOTHING = object()
REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
PROBLEM = {"type": str, "title": str, "status": int, "detail": str, "code": str, "request_id": str}
# The suite's certificate is its own; certificates are not what these tests are about.
POOL = urllib3.PoolManager(
    num_pools=20,
    maxsize=400,
    retries=False,
    timeout=urllib3.Timeout(connect=3, read=15),
    cert_reqs="CERT_NONE",
)


@dataclass(frozen=True)
class Reply:
    """One answer of the shop."""

    request: str
    status: int
    headers: Mapping[str, str]
    raw: bytes
    seconds: float

    @property
    def body(self) -> Any:
        """The parsed JSON body."""
        return jsonlib.loads(self.raw)

    def expect(self, status: int) -> Any:
        """Check the status of a good answer and return its body."""
        assert self.status == status, f"{self.request}: {self.status}, not {status}: {self.raw[:2000]!r}"
        if not self.raw:
            return None
        assert self.headers["Content-Type"].split(";")[0] == "application/json", self.request
        return self.body

    def refused(self, status: int, code: str) -> Any:
        """Check that the answer is this problem and return its document."""
        assert (self.status, self.code) == (status, code), (
            f"{self.request}: {self.status} {self.raw[:2000]!r}"
        )
        return self.body

    def invalid(self, *fields: str) -> Any:
        """Check that the answer is 422 and names these fields, at least."""
        problem = self.refused(422, "validation_error")
        named = [error["field"] for error in problem["errors"]]
        assert set(fields) <= set(named), f"{self.request} names {named}"
        return problem

    @property
    def code(self) -> str | None:
        """The code of a problem document."""
        return self.body.get("code") if self.is_problem else None

    @property
    def is_problem(self) -> bool:
        """Tell whether the body is a problem document."""
        return self.headers.get("Content-Type", "").split(";")[0] == "application/problem+json"

    def check(self) -> "Reply":
        """Check what every answer promises: a request id, and a problem document for every error."""
        assert REQUEST_ID.fullmatch(self.headers.get("X-Request-ID", "")), f"{self.request}: {self.headers}"
        # A service that is not well answers with its health.
        if self.status >= 400 and self.request != "GET /health":
            assert self.is_problem, f"{self.request}: {self.status} {self.headers} {self.raw[:500]!r}"
            wrong = {
                k: self.body.get(k) for k, kind in PROBLEM.items() if not isinstance(self.body.get(k), kind)
            }
            assert not wrong, f"{self.request}: {self.body}"
            assert self.body["status"] == self.status
            # An answer that is given again is the first one, body and all.
            if "Idempotent-Replayed" not in self.headers:
                assert self.body["request_id"] == self.headers["X-Request-ID"], self.request
            assert re.fullmatch(r"[a-z0-9_]+", self.body["code"])
        if self.status == 401 and self.code == "unauthorized":
            assert self.headers.get("WWW-Authenticate", "").startswith("Bearer"), self.request
        if self.code in ("rate_limited", "service_unavailable"):
            assert int(self.headers["Retry-After"]) >= 1, self.request
        return self


@dataclass(frozen=True)
class Client:
    """Somebody who talks to the shop: anyone without a token, else the user that it belongs to."""

    url: str
    token: str | None = None
    user: Mapping[str, Any] | None = None
    password: str = ""
    refresh_token: str = ""

    def send(
        self,
        method: str,
        path: str,
        *,
        json: Any = NOTHING,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        prefix: str = API,
    ) -> Reply:
        """Send one request, exactly once, and check what every answer promises."""
        sent = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if json is not NOTHING:
            data = jsonlib.dumps(json, ensure_ascii=False).encode()
            sent["Content-Type"] = "application/json"
        sent |= headers or {}
        started = time.monotonic()
        answer = POOL.request(method, self.url + prefix + path, body=data, headers=sent, redirect=False)
        seconds = time.monotonic() - started
        reply = Reply(f"{method} {prefix}{path}", answer.status, answer.headers, answer.data, seconds)
        return reply.check()

    def get(self, path: str, **kwargs: Any) -> Reply:
        """Send a GET request."""
        return self.send("GET", path, **kwargs)

    def post(self, path: str, json: Any = NOTHING, **kwargs: Any) -> Reply:
        """Send a POST request."""
        return self.send("POST", path, json=json, **kwargs)

    def put(self, path: str, json: Any = NOTHING, **kwargs: Any) -> Reply:
        """Send a PUT request."""
        return self.send("PUT", path, json=json, **kwargs)

    def delete(self, path: str, json: Any = NOTHING, **kwargs: Any) -> Reply:
        """Send a DELETE request."""
        return self.send("DELETE", path, json=json, **kwargs)

    def login(self, username: str, password: str) -> "Client":
        """Return a client that is signed in."""
        session = self.post("/login", {"username": username, "password": password}).expect(200)
        return Client(self.url, session["access_token"], session["user"], password, session["refresh_token"])

    def all(self, path: str, limit: int = 100) -> list[Any]:
        """Read a whole list, page by page."""
        items: list[Any] = []
        cursor = ""
        while True:
            joint = "&" if "?" in path else "?"
            page = self.get(f"{path}{joint}limit={limit}{cursor}").expect(200)
            assert len(page["items"]) <= limit
            items += page["items"]
            if page["next_cursor"] is None:
                return items
            cursor = f"&cursor={page['next_cursor']}"


def eventually(read: Callable[[], T], *, seconds: float = 20, every: float = 0.2) -> T:
    """Return the first truthy answer; the last one when time is up, for the caller to assert on."""
    deadline = time.monotonic() + seconds
    while True:
        value = read()
        if value or time.monotonic() > deadline:
            return value
        time.sleep(every)
