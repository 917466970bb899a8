"""The rules that keep the house in order, read from the sources with `ast`; docs/architecture.md says why."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SERVICES = ["user_service", "product_service", "order_service", "notification_service"]
PACKAGES = {
    "chassis": ROOT / "chassis/chassis",
    **{name: ROOT / name.replace("_", "-") / name for name in SERVICES},
}
MODULES = {
    ".".join([package, *path.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__"): path
    for package, folder in PACKAGES.items()
    for path in sorted(folder.rglob("*.py"))
}

# Which of its neighbours a layer may import; what is no layer (payments, search, channels …) is free.
LAYERS = {
    "routes": {"schemas", "services", "errors"},
    "consumers": {"schemas", "services", "errors", "events", "clients"},
    "tasks": {"schemas", "services", "errors"},
    "services": {"models", "events", "errors", "clients"},
    "clients": {"schemas", "errors", "config"},
    "models": {"errors"},
    "events": {"schemas", "errors", "config"},
    "schemas": {"events", "errors", "config"},
    "errors": set(),
    "config": set(),
}
# What else a layer never imports, from whatever package.
FORBIDDEN = {
    "routes": {"pika", "celery", "sqlalchemy", "flask_sqlalchemy"},
    "consumers": {"pika", "celery", "sqlalchemy", "flask", "flask_sqlalchemy"},
    "tasks": {"pika", "sqlalchemy", "flask_sqlalchemy"},
    "services": {"flask", "celery", "pika"},
    "clients": {"flask", "celery", "pika", "sqlalchemy"},
    "models": {"flask", "celery", "pika"} | {f"chassis.{m}" for m in ("api", "broker", "service", "worker")},
    "events": {"flask", "celery", "pika", "sqlalchemy"},
    "schemas": {"flask", "celery", "pika", "sqlalchemy"},
    "errors": {"flask", "celery", "pika", "sqlalchemy"},
    "config": {"flask", "celery", "pika", "sqlalchemy"},
}
LONGEST_ROUTE = 15


@cache
def tree(module: str) -> ast.Module:
    """Parse one module."""
    return ast.parse(MODULES[module].read_text())


def imports(module: str) -> Iterator[str]:
    """Name everything that a module imports, absolutely: `a.b`, and `a.b.c` for `from a.b import c`."""
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)


def forbidden(layer: str, name: str) -> bool:
    """Tell whether a layer must not import this; the type of a session is free for annotations."""
    return belongs_to(name, FORBIDDEN[layer]) and name not in {"sqlalchemy.orm", "sqlalchemy.orm.Session"}


def belongs_to(name: str, packages: set[str]) -> bool:
    """Tell whether a dotted name is one of the packages or lies in one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def importers(packages: set[str]) -> list[str]:
    """List the modules that import any of these packages."""
    return [module for module in MODULES if any(belongs_to(name, packages) for name in imports(module))]


def calls(module: str, method: str) -> list[int]:
    """Return the lines on which `something.method(…)` is called."""
    return [
        node.lineno
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method
    ]


def layer_of(module: str) -> str | None:
    """Name the layer of a service's module, or None for the chassis and for modules that are no layer."""
    package, _, rest = module.partition(".")
    name = rest.partition(".")[0]
    return name if package != "chassis" and name in LAYERS else None


LAYERED = [module for module in MODULES if layer_of(module)]


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_the_same_shape(service):
    expected = {"routes", "schemas", "services", "models", "events", "errors", "config"}
    assert expected <= {layer_of(module) for module in LAYERED if module.startswith(f"{service}.")}


@pytest.mark.parametrize("module", LAYERED)
def test_a_layer_imports_only_the_layers_below_it(module):
    package, layer = module.partition(".")[0], layer_of(module)
    neighbours = {name.split(".")[1] for name in imports(module) if name.startswith(f"{package}.")}
    assert (neighbours & LAYERS.keys()) - LAYERS[layer] - {layer} == set()


@pytest.mark.parametrize("module", LAYERED)
def test_a_layer_keeps_away_from_the_tools_of_others(module):
    assert [name for name in imports(module) if forbidden(layer_of(module), name)] == []


@pytest.mark.parametrize("module", MODULES)
def test_no_service_imports_another_and_the_chassis_none(module):
    others = set(SERVICES) - {module.partition(".")[0]}
    assert [name for name in imports(module) if belongs_to(name, others)] == []


def test_pika_is_imported_in_one_module():
    assert importers({"pika"}) == ["chassis.broker"]


def test_celery_stays_in_the_notification_service():
    assert {module.partition(".")[0] for module in importers({"celery", "kombu"})} == {"notification_service"}


def test_commit_occurs_in_one_place():
    # The migrations end the transaction in which they took their lock; no session is meant there.
    others = [module for module in MODULES if module not in ("chassis.db", "chassis.migrations")]
    assert [module for module in others if calls(module, "commit")] == []
    assert len(calls("chassis.db", "commit")) == 1


@pytest.mark.parametrize("module", MODULES)
def test_a_flush_says_why_it_is_there(module):
    lines = MODULES[module].read_text().splitlines()
    silent = [n for n in calls(module, "flush") if "#" not in lines[n - 1] and "#" not in lines[n - 2]]
    assert silent == []


@pytest.mark.parametrize("module", MODULES)
def test_only_models_change_a_status(module):
    assigned = [
        node.lineno
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Attribute) and target.attr == "status"
    ]
    assert layer_of(module) == "models" or assigned == []


@pytest.mark.parametrize("module", MODULES)
def test_the_environment_is_read_by_config_alone(module):
    reads = [name for name in imports(module) if name in {"os.environ", "os.getenv"}]
    reads += [
        f"line {node.lineno}"
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Attribute)
        and node.attr in {"environ", "getenv"}
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    ]
    assert module.endswith((".config", ".gunicorn_conf")) or reads == []


@pytest.mark.parametrize("module", MODULES)
def test_nothing_starts_a_process_or_evaluates_what_it_is_given(module):
    assert not {"subprocess", "multiprocessing", "pty", "pickle", "marshal", "shelve"} & set(imports(module))
    called = {
        node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute)
    }
    found = {"eval", "exec", "system", "popen", "fork", "posix_spawn", "execv", "execvp"} & called
    # `flask serve` becomes Gunicorn, with arguments of its own.
    assert found <= ({"execv"} if module == "chassis.cli" else set())


def routes(module: str) -> Iterator[ast.FunctionDef]:
    """Yield the decorated functions of a routes module."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.FunctionDef) and node.decorator_list:
            yield node


def body_lines(function: ast.FunctionDef) -> int:
    """Count the lines of a function's body without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("module", [module for module in LAYERED if layer_of(module) == "routes"])
def test_a_route_stays_short(module):
    long = {route.name: lines for route in routes(module) if (lines := body_lines(route)) > LONGEST_ROUTE}
    assert long == {}


@pytest.mark.parametrize("service", SERVICES)
def test_app_py_stays_thin(service):
    path = ROOT / service.replace("_", "-") / "app.py"
    assert len([line for line in path.read_text().splitlines() if line.strip()]) <= LONGEST_ROUTE
