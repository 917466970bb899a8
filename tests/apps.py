"""The four Flask apps as their code makes them."""

import importlib
from functools import cache
from typing import Any

from flask import Flask

SERVICES = ("user_service", "product_service", "order_service", "notification_service")


def settings_of(package: str, **values: Any) -> Any:
    """Make a service's settings; what it needs and is not given gets a text of 32 characters."""
    kind = importlib.import_module(f"{package}.config").Settings
    needed = {name: "x" * 32 for name, field in kind.model_fields.items() if field.is_required()}
    return kind(**{**needed, **values})


def make_app(package: str, **values: Any) -> Flask:
    """Build a service's app on these settings."""
    return importlib.import_module(package).create_app(settings_of(package, **values))


def close_app(app: Flask) -> None:
    """Close an app's connections; a socket left open fails whichever test runs when it is collected."""
    with app.app_context():
        db = app.extensions["sqlalchemy"]
        db.session.remove()
        db.engine.dispose()
    if edge := app.extensions.get("edge"):
        edge.gate.denied.close()
        edge.redis.close()


@cache
def openapi(package: str) -> dict[str, Any]:
    """Return a service's OpenAPI document."""
    answer = make_app(package).test_client().get("/openapi.json")
    assert answer.status_code == 200
    return answer.get_json()
