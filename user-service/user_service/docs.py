"""The page at `/docs`: Swagger UI's own files, showing the documents of the four services."""

from importlib.util import find_spec
from pathlib import Path

from flask import Blueprint, Response, abort, redirect, send_file
from werkzeug.wrappers import Response as BaseResponse

from chassis.openapi import Page

PAGE = Path(__file__).parent / "docs_page"
KEPT_SECONDS = 300
# Swagger UI sets style attributes and draws its icons from data: addresses.
POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"

PAGES = (
    Page("/docs", "Show the documents of the four services.", ("text/html",), (200,)),
    Page("/docs/", "Lead to the page.", ("text/html",), (302,)),
    Page("/docs/{name}", "Show one of the page's files.", ("text/javascript", "text/css"), (200, 404)),
)

blueprint = Blueprint("docs", __name__)


def swagger_files() -> dict[str, Path]:
    """Find the files of the page, by the name under which they are served."""
    package = find_spec("flask_openapi_swagger")
    assert package is not None
    assert package.origin is not None
    folder = Path(package.origin).parent / "templates" / "swagger"
    bundled = ("css/swagger-ui.css", "js/swagger-ui-bundle.js", "js/swagger-ui-standalone-preset.js")
    return {
        "page.js": PAGE / "page.js",
        "page.css": PAGE / "page.css",
        **{Path(path).name: folder / path for path in bundled},
    }


FILES = swagger_files()


@blueprint.get("/docs")
def show_page() -> Response:
    """Serve the page."""
    response = send_file(PAGE / "index.html", max_age=KEPT_SECONDS)
    response.headers["Content-Security-Policy"] = POLICY
    return response


@blueprint.get("/docs/")
def show_page_with_slash() -> BaseResponse:
    """Lead to the page."""
    return redirect("/docs")


@blueprint.get("/docs/<name>")
def show_file(name: str) -> Response:
    """Serve one of the page's files."""
    if name not in FILES:
        abort(404)
    return send_file(FILES[name], max_age=KEPT_SECONDS)
