"""Thousands of requests that nobody would send: no fault, no stack trace, no lost connection.

Beside tests/e2e/test_openapi.py, which compares answers with the documents. The seed is fixed; FUZZ_SEED
takes another one, FUZZ_COUNT other numbers of requests for each operation.
"""

import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import urllib3

from tests.apps import SERVICES as PACKAGES
from tests.apps import openapi
from tests.e2e.client import API, POOL, Client
from tests.e2e.suite import SERVICES, Suite
from tests.security.documents import Operation, operations
from tests.security.fuzzing import Fuzzed, Fuzzer
from tests.security.insides import PAIRS, service_token
from tests.security.report import Report
from tests.security.test_matrix import CASES
from tests.security.wire import find_in_logs
from tests.security.world import World

SEED = os.environ.get("FUZZ_SEED", "1")
COUNT = int(os.environ.get("FUZZ_COUNT", "32"))
# These hash a password once the body is good, which takes a core for a quarter of a second.
COSTLY = {f"POST {API}{path}" for path in ("/login", "/register", "/password/reset")} | {
    f"PUT {API}/profile/password"
}
FEW = 8
# It would sign the fuzzer out.
LEFT_OUT = {f"POST {API}/logout"}
AT_ONCE = 4


def wanted(package: str) -> list[str]:
    """Name the operations of a service that are worth it: pages and health take nothing."""
    found = operations(package.replace("_", "-"), openapi(package))
    return [o.name for o in found if o.path.startswith(("/api/", "/internal/")) and o.name not in LEFT_OUT]


NAMES = [name for package in PACKAGES for name in wanted(package)]


@pytest.fixture(scope="module")
def throwaway(world: World) -> World:
    """Return the same world owned by somebody whose account may be spoilt."""
    return World(
        world.suite, world.head, world.make_customer, world.make_customer(), world.other, world.admin
    )


@pytest.fixture(scope="module")
def counts() -> Counter[int]:
    """Count the answers by their status."""
    return Counter()


@pytest.fixture(scope="module", autouse=True)
def no_fault_is_logged(running_suite: Suite) -> object:
    """Look into the logs afterwards: a fault that nobody was told of is one too."""
    before = set(find_in_logs(running_suite.logs, '"request failed'))
    yield
    assert set(find_in_logs(running_suite.logs, '"request failed')) <= before


def token_of(world: World, operation: Operation) -> str | None:
    """Return the token of somebody whom the operation answers."""
    audience = CASES[operation.name].audience
    if audience in PAIRS:
        return service_token(world.suite.env, audience, scope=operation.facts["x-scope"])
    return (world.admin if audience == "admin" else world.owner).token


def send(url: str, token: str | None, fuzzed: Fuzzed) -> urllib3.BaseHTTPResponse:
    """Send one request, once."""
    headers = {**fuzzed.headers, "Authorization": f"Bearer {token}"}
    return POOL.request(fuzzed.method, url + fuzzed.target, body=fuzzed.body, headers=headers, redirect=False)


def judge(fuzzed: Fuzzed, answer: urllib3.BaseHTTPResponse) -> None:
    """Check that the answer is no fault and tells nothing of the inside."""
    # A limit of the edge or of an account is an answer too.
    assert answer.status < 500, (str(fuzzed), answer.status, answer.data[:500])
    for trace in (b"Traceback", b'File "', b"psycopg2", b"sqlalchemy", b"pydantic"):
        assert trace not in answer.data or trace in (fuzzed.body or b""), (str(fuzzed), answer.data[:500])
    assert "X-Injected" not in answer.headers
    if answer.status >= 400:
        assert answer.headers["Content-Type"].split(";")[0] == "application/problem+json", str(fuzzed)
        assert answer.json()["status"] == answer.status


@pytest.mark.parametrize("name", NAMES)
def test_an_operation_takes_anything(
    documented: dict[str, Operation], throwaway: World, counts: Counter[int], name: str
) -> None:
    operation = documented[name]
    costly = name in COSTLY
    fuzzer = Fuzzer(operation, CASES[name].path(throwaway), SEED)
    requests = list(fuzzer.requests(FEW if costly else COUNT))
    token = token_of(throwaway, operation)
    # Every other operation through the proxy, which has a word in it as well.
    public = operation.path.startswith(API) and NAMES.index(name) % 2
    url = throwaway.suite.url if public else throwaway.suite.service_urls[operation.service]
    with ThreadPoolExecutor(1 if costly else AT_ONCE) as pool:
        answers = list(pool.map(lambda fuzzed: send(url, token, fuzzed), requests))
    for fuzzed, answer in zip(requests, answers, strict=True):
        judge(fuzzed, answer)
    counts.update(answer.status for answer in answers)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_takes_anything_where_nothing_is(
    running_suite: Suite, documented: dict[str, Operation], counts: Counter[int], service: str
) -> None:
    operation = next(o for o in documented.values() if o.service == service and o.path.startswith(API))
    fuzzer = Fuzzer(operation, {}, f"{SEED} nowhere")
    for fuzzed in fuzzer.requests(COUNT):
        nowhere = Fuzzed(fuzzed.method, "/nothing" + fuzzed.target, fuzzed.body, fuzzed.headers)
        answer = send(running_suite.service_urls[service], None, nowhere)
        judge(nowhere, answer)
        counts[answer.status] += 1


def test_there_were_enough_and_they_went_far_enough(counts: Counter[int], report: Report) -> None:
    table = report.table(f"Fuzzed requests by status (seed {SEED})")
    for status, number in sorted(counts.items()):
        table.add("requests", str(status), number)
    assert counts.total() >= 2000
    # Not all may stop at the door.
    assert sum(n for status, n in counts.items() if status < 300) > 150
    assert counts[422] > 500


def test_the_shop_serves_afterwards(anyone: Client, world: World, new_customer: Callable[[], Client]) -> None:
    new_customer().get("/profile").expect(200)
    world.owner.get(f"/orders/{world.order_id()}").expect(200)
    anyone.get("/products").expect(200)
