"""The page of the API documents is served whole, from here alone."""

import re

import pytest


def fetch(app, path):
    """Return the answer, read and closed: it is a file."""
    with app.test_client().get(path, buffered=True) as answer:
        return answer


def test_the_page_loads_only_its_own_files(app):
    page = fetch(app, "/docs")
    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    assert re.search(r"<script(?![^>]* src=)|\son\w+=|style=", page.text) is None
    addresses = [a for a in re.findall(r'(?:src|href)="([^"]+)"', page.text) if a != "data:,"]
    assert len(addresses) == 5
    for address in addresses:
        assert fetch(app, address).status_code == 200


def test_the_page_shows_the_four_documents(app):
    script = fetch(app, "/docs/page.js").text
    for name in ("user", "product", "order", "notification"):
        assert f'"{name}-service"' in script


@pytest.mark.parametrize("path", ["/docs/", "/docs/other.js", "/docs/..%2fconfig.py", "/docs/index.html"])
def test_nothing_else_is_served(app, path):
    assert fetch(app, path).status_code == (302 if path == "/docs/" else 404)


def test_the_document_names_every_route_and_refusal(app):
    document = app.test_client().get("/openapi.json").json
    assert {
        "/api/v1/register",
        "/api/v1/login",
        "/api/v1/token/refresh",
        "/api/v1/logout",
        "/api/v1/profile",
        "/api/v1/email/verify",
        "/.well-known/jwks.json",
    } <= set(document["paths"])
    login = document["paths"]["/api/v1/login"]["post"]["responses"]
    assert {"200", "400", "401", "403", "413", "415", "422", "429", "503"} <= set(login)
    username = document["components"]["schemas"]["RegisterIn"]["properties"]["username"]
    assert (username["minLength"], username["maxLength"]) == (3, 32)
    assert "required" not in document["components"]["schemas"]["ProfileIn"]
