"""Forged tokens: each of them is 401 at each of the four services."""

import time
from collections.abc import Callable, Sequence

import pytest
import urllib3

from tests.e2e.client import POOL, Client
from tests.security.forging import (
    HEADERS,
    SERVICE_TOKENS,
    TOKENS,
    TWICE,
    Forger,
    ServiceForger,
    make_forger,
)
from tests.security.insides import PAIRS
from tests.security.report import Report
from tests.security.world import World

# Something that a good administrator's token opens, at each service.
DOORS = {
    "user-service": "/users?limit=1",
    "product-service": "/products/{product}/stock/movements",
    "order-service": "/admin/orders?limit=1",
    "notification-service": "/notifications/preferences",
}
# A body comes after the question who asks, so that none is needed.
INNER_DOORS = {
    "ORDER_PRODUCT_KEY": ("books.read", "/internal/v1/books?limit=1"),
    "ORDER_USER_KEY": ("addresses.read", "/internal/v1/users/{user}/addresses/{address}"),
    "NOTIFICATION_USER_KEY": ("users.read", "/internal/v1/admins"),
    "ORDER_NOTIFICATION_KEY": ("notifications.read", "/internal/v1/notifications/lookup"),
}


@pytest.fixture(scope="module")
def forger(running_suite, world: World) -> Forger:
    """Return somebody who has all that a forger may want."""
    return make_forger(running_suite, world.admin, world.owner)


@pytest.fixture(scope="module")
def doors(running_suite, world: World) -> dict[str, str]:
    """Return what to ask each service for."""
    product = world.product_id()
    return {
        service: f"{running_suite.service_urls[service]}/api/v1{path.format(product=product)}"
        for service, path in DOORS.items()
    }


@pytest.fixture(scope="module")
def inner_doors(running_suite, world: World) -> dict[str, str]:
    """Return what each pair's second service keeps for the first."""
    assert world.owner.user is not None
    known = {"user": world.owner.user["id"], "address": world.address_id()}
    return {
        pair: running_suite.service_urls[PAIRS[pair][1]] + path.format(**known)
        for pair, (_, path) in INNER_DOORS.items()
    }


def ask(url: str, headers: Sequence[tuple[str, str]]) -> urllib3.BaseHTTPResponse:
    """Send a GET, or a POST without a body, with these headers, twice the same if so wanted."""
    sent = urllib3.HTTPHeaderDict()
    for name, value in headers:
        # As bytes go over the wire, whatever they mean.
        sent.add(name, value)
    method = "POST" if url.endswith("/lookup") else "GET"
    return POOL.request(method, url, headers=sent, redirect=False)


def refuse_everywhere(
    doors: dict[str, str], headers: list[tuple[str, str]], statuses: tuple[int, ...] = (401,)
) -> dict[str, int]:
    """Check that each service answers so, and return what each did."""
    answers = {service: ask(url, headers) for service, url in doors.items()}
    for service, answer in answers.items():
        assert answer.status in statuses, (service, answer.status, answer.data[:300])
        assert answer.headers["Content-Type"].split(";")[0] == "application/problem+json"
        if answer.status == 401:
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            assert answer.json()["code"] == "unauthorized"
    return {service: answer.status for service, answer in answers.items()}


def note(report: Report, title: str, name: str, statuses: dict[str, int]) -> None:
    """Enter a line into the report."""
    for column, status in statuses.items():
        report.table(title).add(name, column, status)


def test_the_doors_open_to_a_good_token(forger: Forger, doors: dict[str, str]) -> None:
    for token in (forger.good, forger.sign()):
        for service, url in doors.items():
            assert ask(url, [("Authorization", f"Bearer {token}")]).status == 200, service


@pytest.mark.parametrize("name", TOKENS)
def test_a_forged_token_is_refused(forger, doors, report: Report, name: str) -> None:
    found = refuse_everywhere(doors, [("Authorization", f"Bearer {TOKENS[name](forger)}")])
    note(report, "Forged access tokens × services", name, found)


@pytest.mark.parametrize("name", HEADERS)
def test_a_token_elsewhere_does_not_count(forger, doors, report: Report, name: str) -> None:
    found = refuse_everywhere(doors, HEADERS[name](forger))
    note(report, "Forged access tokens × services", name, found)


@pytest.mark.parametrize("name", TWICE)
def test_of_two_tokens_none_counts(forger, doors, report: Report, name: str) -> None:
    found = refuse_everywhere(doors, TWICE[name](forger), statuses=(400, 401))
    note(report, "Forged access tokens × services", name, found)


@pytest.mark.parametrize("name", ["access_token", "token", "authorization"])
def test_a_token_in_the_address_does_not_count(forger, doors, name: str) -> None:
    query = {
        service: f"{url}{'&' if '?' in url else '?'}{name}={forger.good}" for service, url in doors.items()
    }
    refuse_everywhere(query, [])


def _service_forger(forger: Forger, pair: str) -> ServiceForger:
    return ServiceForger(forger.suite, pair, INNER_DOORS[pair][0], forger.good)


def test_the_inner_doors_open_to_a_good_token(forger, inner_doors: dict[str, str]) -> None:
    for pair, url in inner_doors.items():
        token = _service_forger(forger, pair).sign()
        wanted = 422 if url.endswith("/lookup") else 200
        assert ask(url, [("Authorization", f"Bearer {token}")]).status == wanted, pair


@pytest.mark.parametrize("name", SERVICE_TOKENS)
def test_a_forged_service_token_is_refused(forger, inner_doors, report: Report, name: str) -> None:
    found = {}
    for pair, url in inner_doors.items():
        token = SERVICE_TOKENS[name](_service_forger(forger, pair))
        found |= refuse_everywhere({pair: url}, [("Authorization", f"Bearer {token}")])
    note(report, "Forged service tokens × pairs", name, found)


def _sign_out(world: World) -> Client:
    gone = world.sign_in(world.owner)
    gone.post("/logout").expect(204)
    return gone


def _disable(world: World) -> Client:
    gone = world.make_customer()
    assert gone.user is not None
    world.admin.send("PATCH", f"/users/{gone.user['id']}", json={"active": False}).expect(200)
    return gone


@pytest.mark.parametrize("leave", [_sign_out, _disable], ids=["signed out", "disabled"])
def test_the_token_of_who_has_left_is_refused(
    world: World, doors, report: Report, leave: Callable[[World], Client]
) -> None:
    gone = leave(world)
    header = [("Authorization", f"Bearer {gone.token}")]
    # Within a second, as promised.
    time.sleep(1)
    note(
        report,
        "Forged access tokens × services",
        f"of who {leave.__name__[1:]}",
        refuse_everywhere(doors, header),
    )
