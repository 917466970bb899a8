"""Fill a running shop with a catalogue and a customer, through its public interface.

    scripts/demo.py http://localhost        (make demo; the administrator is the one in .env)

What is there already stays as it is, so it may be run again.
"""

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from deploy.local.settings import Settings  # noqa: E402
from scripts.demo_catalogue import wares  # noqa: E402

CUSTOMER = {"username": "demo", "email": "demo@example.com", "password": "demo-in-the-shop-1"}


class Shop:
    """Speak to the shop as one person."""

    def __init__(self, url: str) -> None:
        self._api = url.rstrip("/") + "/api/v1"
        self._token = ""

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Send a request; return the status and the body of the answer, a refusal's too."""
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._api + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, json.loads(refusal.read() or b"null")

    def ask(self, method: str, path: str, body: Any = None, *, known: Collection[str] = ()) -> Any:
        """Send a request that must succeed; a refusal that is `known` is as good, and gives None."""
        status, answer = self.call(method, path, body)
        if status < 400:
            return answer
        if answer.get("code") in known:
            return None
        sys.exit(f"{method} {path} was refused with {status}: {answer.get('detail', answer)}")

    def sign_in(self, username: str, password: str) -> None:
        """Act as this person from now on."""
        login = {"username": username, "password": password}
        answer = self.ask("POST", "/login", login, known=["invalid_credentials"])
        if answer is None:
            sys.exit(f"ADMIN_PASSWORD in .env is not the password of {username}: was it changed since?")
        self._token = answer["access_token"]


class Shelves:
    """The shop's categories, made when they are first needed."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._ids = {
            (tree["name"], child["name"]): child["id"]
            for tree in shop.ask("GET", "/categories")["items"]
            for child in [{"name": "", "id": tree["id"]}, *tree["children"]]
        }

    def id(self, department: str, shelf: str = "") -> int:
        """Return the id of a shelf, or of the department itself."""
        if (department, shelf) not in self._ids:
            parent = {"parent_id": self.id(department)} if shelf else {}
            category = self._shop.ask("POST", "/categories", {"name": shelf or department} | parent)
            self._ids[department, shelf] = category["id"]
        return self._ids[department, shelf]


def make_products(shop: Shop) -> tuple[int, int]:
    """Make the missing products; return how many were made and how many there are."""
    shelves, made = Shelves(shop), []
    for ware in wares():
        product = asdict(ware)
        product["category_id"] = shelves.id(product.pop("department"), product.pop("shelf"))
        made.append(shop.ask("POST", "/products", product, known=["sku_taken"]))
    return sum(product is not None for product in made), len(made)


def main() -> None:
    """Fill the shop at the address of the command line."""
    url = sys.argv[1] if len(sys.argv) > 1 else "http://localhost"
    settings = Settings.load(ROOT / ".env", ROOT / ".env.example")
    shop = Shop(url)
    try:
        shop.ask("POST", "/register", CUSTOMER, known=["username_taken", "email_taken"])
        shop.sign_in(settings["ADMIN_USERNAME"], settings["ADMIN_PASSWORD"])
        made, total = make_products(shop)
    except OSError as error:
        sys.exit(f"The shop at {url} does not answer ({error}); start it with make up.")
    print(f"{made} products were made of the demo's {total}.")
    print(f"Customer: {CUSTOMER['username']}, password: {CUSTOMER['password']}")


if __name__ == "__main__":
    main()
