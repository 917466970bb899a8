"""The suite of the end-to-end tests and its people; what the tests here find is printed as tables."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.client import Client
from tests.e2e.conftest import (  # noqa: F401
    admin,
    anyone,
    customer,
    mailbox,
    new_customer,
    new_order,
    new_paid_order,
    new_product,
    new_shipped_order,
    shopper,
)
from tests.e2e.suite import SERVICES, Suite
from tests.security.documents import Operation, operations, read_document
from tests.security.report import Report
from tests.security.world import World, dissolve, make_world

HERE = Path(__file__).parent
REPORT = Report()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that prints the tables."""
    parser.addoption("--tables", action="store_true", help="print the tables of tests/security")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep all tests of the one running suite in one worker process."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("e2e"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print or keep the tables."""
    if not REPORT.tables:
        return
    kept = REPORT.keep()
    if config.getoption("--tables", default=False):
        for line in REPORT.lines():
            terminalreporter.write_line(line)
    terminalreporter.write_line(f"security tables: {kept}")


@pytest.fixture(scope="session")
def report() -> Report:
    """Return where the tables of the run are collected."""
    return REPORT


@pytest.fixture(scope="session")
def documented(running_suite: Suite) -> dict[str, Operation]:
    """Return every operation that the running services document, by its name."""
    return {
        operation.name: operation
        for service in SERVICES
        for operation in operations(service, read_document(running_suite.service_urls[service]))
    }


@pytest.fixture(scope="module")
def world(running_suite: Suite, admin: Client, new_customer: Callable[..., Client]) -> Iterator[World]:  # noqa: F811
    """Yield people who own one of everything."""
    made = make_world(running_suite, admin, new_customer)
    yield made
    dissolve(made)
