"""The four OpenAPI documents against what really answers: no fault, and nothing that they don't state.

Requests are made from the documents, good ones and broken ones, the same at each run.
"""

import re
from collections.abc import Iterator
from contextlib import suppress

import pytest
import schemathesis
import schemathesis.checks
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.e2e.client import POOL
from tests.e2e.suite import SERVICES

CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
BOUNDED = settings(
    max_examples=12,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def known(admin, new_product, new_order, new_paid_order):
    """Ids that exist, by the part of the path that they follow."""
    product = new_product()["id"]
    return {
        "products": product,
        "items": product,
        "categories": admin.post("/categories", {"name": "documented"}).expect(201)["id"],
        "orders": new_paid_order(admin, (product, 1))["id"],
    }


def operations(url: str) -> Iterator[APIOperation]:
    """Yield what a service's document describes."""
    document = POOL.request("GET", f"{url}/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=url)
    for result in schema.get_all_operations():
        yield result.ok()


def path_parameters(operation: APIOperation, known: dict) -> dict | None:
    """Fill an operation's path with ids that exist, if it has one of those."""
    found = re.findall(r"(\w+)/\{(\w+)\}", operation.path)
    return {name: known[part] for part, name in found if part in known} or None


@pytest.mark.parametrize(
    "mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value
)
@pytest.mark.parametrize("service", SERVICES)
def test_a_service_answers_as_its_document_says(
    running_suite, admin, new_customer, known, service, mode, subtests
):
    for operation in operations(running_suite.service_urls[service]):
        # What changes an account or ends its session is tried on one that nobody else needs.
        own = service == "user-service" and operation.method != "get"
        who = new_customer() if own else admin
        given = path_parameters(operation, known)
        for path in [None, given] if given else [None]:
            with subtests.test(operation.label, path=path):
                call_as_documented(operation, mode, who.token, path)


def call_as_documented(
    operation: APIOperation, mode: GenerationMode, token: str, given_path: dict | None
) -> None:
    """Send what the document describes, or what it forbids, and check each answer."""

    @BOUNDED
    @given(case=operation.as_strategy(mode, path_parameters=given_path))
    def ask(case):
        case.call_and_validate(headers={"Authorization": f"Bearer {token}"}, checks=CHECKS, timeout=10)

    # A route that takes nothing can't be asked wrongly.
    with suppress(Unsatisfiable):
        ask()
