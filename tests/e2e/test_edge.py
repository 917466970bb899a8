"""What the outermost layer promises on every address: who a client is, and what browsers are told."""

import pytest

from tests.e2e.client import Client

# The suite's certificate is its own; certificates are not what these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")

POLICIES = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "strict-origin-when-cross-origin"}
LIES = {"X-Forwarded-For": "203.0.113.9", "X-Real-IP": "203.0.113.9", "Forwarded": "for=203.0.113.9"}


@pytest.fixture(scope="module")
def addresses(running_suite):
    """Return the public addresses and each service's own."""
    return [running_suite.url, running_suite.https_url, *running_suite.service_urls.values()]


def test_nobody_makes_up_an_address_of_their_own(running_suite, new_customer):
    customer = new_customer()
    login = {"username": customer.user["username"], "password": customer.password}
    own = running_suite.service_urls["user-service"]
    for url in (running_suite.url, running_suite.https_url, own):
        Client(url).post("/login", login, headers=LIES).expect(200)
    seen = [device["address"] for device in customer.get("/sessions").expect(200)["items"]]
    assert len(seen) == 4
    assert "203.0.113.9" not in seen
    assert all(seen)


@pytest.mark.parametrize("path", ["/health", "/nowhere", "/api/v1/products", "/api/v1/orders"])
def test_every_answer_tells_browsers_what_not_to_do(addresses, path):
    for url in addresses:
        headers = Client(url).get(path, prefix="").headers
        assert {name: headers.get(name) for name in POLICIES} == POLICIES
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["Server"] == "nginx"


def test_https_alone_says_that_https_shall_stay(running_suite):
    seconds = int(running_suite.env["HSTS_SECONDS"])
    by_tls = Client(running_suite.https_url).get("/products").headers
    assert by_tls["Strict-Transport-Security"] == f"max-age={seconds}"
    assert "Strict-Transport-Security" not in Client(running_suite.url).get("/products").headers


def test_pages_of_other_sites_are_shut_out(addresses):
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for url in addresses:
        for method in ("GET", "OPTIONS"):
            headers = Client(url).send(method, "/products", headers=asked).headers
            assert not [name for name in headers if name.lower().startswith("access-control-")]


@pytest.mark.parametrize(
    "path", ["/health", "/nowhere", "/api/v1/products", "/api/v1/orders", "/api/v1/nothing"]
)
def test_what_the_api_answers_is_kept_by_nobody(addresses, path):
    for url in addresses:
        assert Client(url).get(path, prefix="").headers["Cache-Control"] == "no-store", url
