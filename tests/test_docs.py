"""What exists is written down: each route, event and setting; and what is written down exists."""

import importlib
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.apps import SERVICES, openapi
from tests.contracts.event_schemas import EVENT_TYPES, data_fields

ROOT = Path(__file__).parent.parent
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
PAGES = "\n".join(path.read_text() for path in [*READMES, *sorted((ROOT / "docs").glob("*.md"))])
API = (ROOT / "docs/api.md").read_text()
EVENTS = (ROOT / "docs/events.md").read_text()
EXAMPLE = (ROOT / ".env.example").read_text().splitlines()
VARIABLE = re.compile(r"([A-Z][A-Z0-9_]*)=(\S*)")


def routes(package):
    """Yield `GET /orders/{id}` for each public route of a service."""
    for path, operations in openapi(package)["paths"].items():
        if not path.startswith("/internal/"):
            for method in operations.keys() & {"get", "post", "put", "patch", "delete"}:
                yield f"{method.upper()} {shorten(path)}"


def shorten(path):
    """Write a path as the pages do: without its base, an id being `{id}` unless it follows another noun."""
    path = path.removeprefix("/api/v1")
    return re.sub(r"\{(?!(?:product_id|method|name)\})\w+\}|(?<=/products/)\{product_id\}", "{id}", path)


DOCUMENTED = set(re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) /[^`]*)`", API))


@pytest.mark.parametrize("package", SERVICES)
def test_every_route_is_on_the_page_of_the_api(package):
    assert set(routes(package)) - DOCUMENTED == set()


def test_the_page_of_the_api_names_no_route_that_is_not_there():
    exist = {route for package in SERVICES for route in routes(package)}
    of_every_service = {"GET /health", "GET /health/live", "GET /metrics", "GET /openapi.json"}
    assert DOCUMENTED - exist - of_every_service == set()


@pytest.mark.parametrize("package", SERVICES)
def test_every_operation_has_an_id_of_its_own(package):
    """Generated clients name their functions by it."""
    ids = [
        operation["operationId"] for item in openapi(package)["paths"].values() for operation in item.values()
    ]
    assert [name for name, times in Counter(ids).items() if times > 1] == []


@pytest.mark.parametrize(
    ("package", "resources"),
    [
        ("user_service", ["accounts", "sessions", "profile", "addresses", "users", "keys"]),
        ("product_service", ["products", "categories"]),
        ("order_service", ["cart", "orders", "payments", "orders-admin"]),
        ("notification_service", ["notifications"]),
    ],
)
def test_the_page_shows_the_shop_by_resource_before_what_is_for_services_and_operators(package, resources):
    operations = [operation for item in openapi(package)["paths"].values() for operation in item.values()]
    shown = list(dict.fromkeys(tag for operation in operations for tag in operation.get("tags", ["default"])))
    assert [tag for tag in shown if tag != "internal"] == [*resources, "operations"]
    assert "internal" not in shown or shown.index("internal") == len(resources)


@pytest.mark.parametrize(
    ("package", "path", "members"),
    [
        ("product_service", "/api/v1/products/{product_id}/stock", {"items"}),
        ("order_service", "/api/v1/orders", {"items", "order_id", "total_amount"}),
        ("order_service", "/api/v1/orders/{order_id}/refund", {"left"}),
        ("order_service", "/api/v1/orders/{order_id}/pay", set()),
    ],
)
def test_the_document_says_what_a_refusal_tells_beside_its_code(package, path, members):
    refusal = openapi(package)["paths"][path]["post"]["responses"]["409"]
    schema = refusal["content"]["application/problem+json"]["schema"]
    assert set(schema.get("properties", {})) == members
    assert {"$ref": "#/components/schemas/Problem"} in schema.get("allOf", [schema])


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_every_event_is_on_the_page_of_events_with_its_fields(event_type):
    assert f"| `{event_type}` |" in EVENTS
    assert [field for field in data_fields(event_type) if f"`{field}`" not in EVENTS] == []


def test_the_page_of_events_names_no_event_that_is_not_there():
    named = set(re.findall(r"^\| `([a-z]+(?:\.[a-z]+)+)` \| [^|]+\| [^|]+\| [^|]+\|$", EVENTS, re.MULTILINE))
    assert named == set(EVENT_TYPES)


def test_every_variable_is_explained_by_the_line_above_it():
    silent = [
        line
        for above, line in zip(["", *EXAMPLE], EXAMPLE, strict=False)
        if VARIABLE.match(line) and not above.startswith("# ")
    ]
    assert silent == []


def test_every_value_is_plain():
    for line in EXAMPLE:
        if line and not line.startswith("#"):
            assert VARIABLE.fullmatch(line), line
            assert not re.search(r"[\"'$#]", line), line


def settings_of(package):
    """Name the variables that a service reads."""
    fields = importlib.import_module(f"{package}.config").Settings.model_fields
    return {name.upper() for name in fields}


@pytest.mark.parametrize("package", SERVICES)
def test_every_variable_that_a_service_reads_is_written_down(package):
    example = {found[1] for line in EXAMPLE if (found := VARIABLE.match(line))}
    unknown = settings_of(package) - example
    assert [name for name in sorted(unknown) if not re.search(rf"`{name}`", PAGES)] == []


@pytest.mark.parametrize("path", READMES, ids=lambda path: path.name)
def test_every_link_within_the_repository_leads_somewhere(path):
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_both_readmes_give_the_same_commands():
    command = re.compile(r"^(?:make|docker|cp|git|curl) .*?(?=\s+#|$)", re.MULTILINE)
    english, chinese = (command.findall(path.read_text()) for path in READMES)
    assert english == chinese


def test_the_make_targets_that_pages_name_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`|\$\()make (?:-s )?([a-z-]+)", PAGES, re.MULTILINE))
    assert named - targets == set()
