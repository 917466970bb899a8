"""People who use the user service over HTTP."""

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from flask import Flask
from sqlalchemy import select
from werkzeug.test import TestResponse

from chassis.events import Event, encode_cloudevent
from tests.contracts.event_schemas import problems

PASSWORD = "kein Allerweltswort"


@dataclass(frozen=True)
class Person:
    """One who sends requests, signed in or not."""

    app: Flask
    user: dict[str, Any] = field(default_factory=dict)
    access_token: str = ""
    refresh_token: str = ""

    def send(self, method: str, path: str, body: Any = None, **kwargs: Any) -> TestResponse:
        """Send a request to a path below the base path."""
        headers = dict(kwargs.pop("headers", {}))
        if self.access_token:
            headers.setdefault("Authorization", f"Bearer {self.access_token}")
        if body is not None:
            kwargs["json"] = body
        return self.app.test_client().open(f"/api/v1{path}", method=method, headers=headers, **kwargs)

    def get(self, path: str) -> TestResponse:
        """Send a GET."""
        return self.send("GET", path)

    def post(self, path: str, body: Any = None) -> TestResponse:
        """Send a POST."""
        return self.send("POST", path, body)

    def patch(self, path: str, body: Any) -> TestResponse:
        """Send a PATCH."""
        return self.send("PATCH", path, body)

    def put(self, path: str, body: Any) -> TestResponse:
        """Send a PUT."""
        return self.send("PUT", path, body)

    def register(self, **fields: Any) -> "Person":
        """Register as somebody new."""
        answer = self.post("/register", registration(**fields))
        assert answer.status_code == 201, answer.json
        return replace(self, user=answer.json)

    def sign_in(self, password: str = PASSWORD) -> "Person":
        """Sign in once more."""
        answer = self.post("/login", {"username": self.user["username"], "password": password})
        assert answer.status_code == 200, answer.json
        return replace(
            self,
            user=answer.json["user"],
            access_token=answer.json["access_token"],
            refresh_token=answer.json["refresh_token"],
        )

    def refresh(self) -> TestResponse:
        """Spend the refresh token."""
        return self.post("/token/refresh", {"refresh_token": self.refresh_token})


def is_signed_out_soon(person: Person) -> bool:
    """Tell whether the person's access token is refused within a second, or little more on a busy machine."""
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        if person.get("/profile").status_code == 401:
            return True
        time.sleep(0.05)
    return False


def eventually(holds: Callable[[], bool], seconds: float = 10) -> bool:
    """Tell whether something comes true in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def registration(**fields: Any) -> dict[str, Any]:
    """Make the body of a registration that works."""
    name = f"p_{uuid.uuid4().hex[:12]}"
    return {"username": name, "email": f"{name}@example.com", "password": PASSWORD} | fields


def refusal(answer: TestResponse) -> tuple[int, str]:
    """Return status and code of a refusal."""
    assert answer.content_type == "application/problem+json"
    return answer.status_code, answer.json["code"]


def wrong_fields(answer: TestResponse) -> list[str]:
    """Return the fields that a 422 names."""
    assert refusal(answer) == (422, "validation_error")
    return [error["field"] for error in answer.json["errors"]]


def events_of(app: Flask, user_id: int) -> list[dict[str, Any]]:
    """Return the events of a user in their order, each true to its schema."""
    with app.app_context():
        session = app.extensions["sqlalchemy"].session
        rows = session.scalars(
            select(Event).where(Event.subject == str(user_id)).order_by(Event.sequence)
        ).all()
        events = [json.loads(encode_cloudevent(row, "user-service")) for row in rows]
    for event in events:
        assert problems(event) == []
    return events
