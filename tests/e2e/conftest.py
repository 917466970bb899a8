"""The people in a running suite, what they buy, and the mails they get."""

import secrets
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.client import POOL, Client, eventually
from tests.e2e.suite import Suite

PASSWORD = "correct horse 电池 staple"
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep all tests of the one running suite in one worker process."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("e2e"))


@pytest.fixture(scope="session")
def anyone(running_suite: Suite) -> Client:
    """Return a client that is not signed in."""
    return Client(running_suite.url)


@pytest.fixture(scope="module")
def admin(running_suite: Suite, anyone: Client) -> Client:
    """Return the administrator that the settings name."""
    return anyone.login(running_suite.env["ADMIN_USERNAME"], running_suite.env["ADMIN_PASSWORD"])


def word(length: int = 12) -> str:
    """Make a word that nobody used before."""
    return "".join(secrets.choice(string.ascii_lowercase) for _ in range(length))


@pytest.fixture(scope="session")
def new_customer(anyone: Client) -> Callable[..., Client]:
    """Return a function that registers somebody and signs them in."""

    def make(**profile: Any) -> Client:
        name = f"u_{word()}"
        account = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
        anyone.post("/register", account).expect(201)
        customer = anyone.login(name, PASSWORD)
        if profile:
            customer.put("/profile", profile).expect(200)
        return customer

    return make


@pytest.fixture
def customer(new_customer: Callable[..., Client]) -> Client:
    """Return somebody new who is signed in."""
    return new_customer()


@pytest.fixture(scope="module")
def shopper(new_customer: Callable[..., Client]) -> Client:
    """Return somebody signed in whom the tests of one module share."""
    return new_customer()


@pytest.fixture(scope="module")
def new_product(admin: Client) -> Callable[..., dict[str, Any]]:
    """Return a function that adds a product to the catalogue."""

    def make(**fields: Any) -> dict[str, Any]:
        product = {"name": f"Product {word()}", "price": "10.00", "stock": 50, "low_stock_threshold": 0}
        return admin.post("/products", product | fields).expect(201)

    return make


@pytest.fixture(scope="module")
def stock_of(admin: Client) -> Callable[[int], int]:
    """Return a function that reads how many pieces can still be sold."""
    return lambda product_id: admin.get(f"/products/{product_id}").expect(200)["stock"]


@pytest.fixture(scope="module")
def new_order(new_product: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Return a function that orders for somebody: two pieces of a new product unless said otherwise."""

    def make(buyer: Client, *lines: tuple[int, int], **fields: Any) -> dict[str, Any]:
        chosen = lines or ((new_product()["id"], 2),)
        items = [{"product_id": product, "quantity": quantity} for product, quantity in chosen]
        return buyer.post("/orders", {"items": items, **fields}).expect(201)

    return make


@pytest.fixture(scope="module")
def new_paid_order(new_order: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Return a function that orders and pays."""

    def make(buyer: Client, *lines: tuple[int, int]) -> dict[str, Any]:
        order = new_order(buyer, *lines)
        return buyer.post(f"/orders/{order['id']}/pay", {"method": "sandbox"}).expect(200)

    return make


@pytest.fixture(scope="module")
def new_shipped_order(admin: Client, new_paid_order: Callable[..., dict[str, Any]]) -> Callable[..., Any]:
    """Return a function that orders, pays and has it shipped."""

    def make(buyer: Client, *lines: tuple[int, int]) -> dict[str, Any]:
        order = new_paid_order(buyer, *lines)
        shipment = {"carrier": "顺丰速运", "tracking_number": "SF1234567890"}
        return admin.post(f"/orders/{order['id']}/ship", shipment).expect(200)

    return make


class Mailbox:
    """The inboxes of everybody, in the development mail catcher."""

    def __init__(self, url: str) -> None:
        self.url = url

    def all(self) -> list[dict[str, Any]]:
        """Read every mail that arrived."""
        answer = POOL.request("GET", f"{self.url}/email")
        assert answer.status == 200
        return answer.json()

    def of(self, address: str, *words: str) -> list[dict[str, Any]]:
        """List one person's mails whose subject or text has all these words."""
        return [
            mail for mail in self.all() if _is_to(mail, address) and all(w in _words(mail) for w in words)
        ]

    def wait(self, address: str, *words: str, count: int = 1, seconds: float = 30) -> list[dict[str, Any]]:
        """Wait until so many of these mails are there."""
        mails = eventually(
            lambda: found if len(found := self.of(address, *words)) >= count else [], seconds=seconds
        )
        assert mails, f"no mail to {address} with {words}; there: {[m['subject'] for m in self.of(address)]}"
        return mails


def _is_to(mail: dict[str, Any], address: str) -> bool:
    return any(to["address"].lower() == address.lower() for to in mail["to"])


def _words(mail: dict[str, Any]) -> str:
    return f"{mail['subject']}\n{mail['text']}"


@pytest.fixture(scope="session")
def mailbox(running_suite: Suite) -> Mailbox:
    """Return the mail catcher."""
    return Mailbox(running_suite.mail_url)
