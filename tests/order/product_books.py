"""A product service with books of its own, over real HTTP: what the order service may rely on, and faults."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import orjson

KEY = "order-product-key-for-tests-01234"
USER_KEY = "order-user-key-for-tests-012345678"
NOTIFICATION_KEY = "order-notification-key-for-tests-0"
RELEASED = "released"


class Drop(Exception):
    """Raised by a hook: the connection closes without an answer."""


@dataclass
class Product:
    """What the books hold of a product."""

    price: str = "10.00"
    stock: int = 100
    status: str = "active"
    name: str = "龙井茶 Longjing"
    delivered: int = field(init=False)

    def __post_init__(self) -> None:
        self.delivered = self.stock

    def show(self, product_id: int) -> dict[str, Any]:
        """Return the common part of every answer."""
        return {"product_id": product_id, "sku": f"SKU-{product_id}", "name": self.name}


@dataclass
class ProductBooks:
    """The books, and the server before them; `before` and `after` a call hooks may act, refuse or drop."""

    products: dict[int, Product] = field(default_factory=dict)
    reservations: dict[str, Any] = field(default_factory=dict)
    sold: set[str] = field(default_factory=set)
    # Ids of events: which have become a mail, and which the notification service would not handle again.
    mailed: set[str] = field(default_factory=set)
    handled: set[str] = field(default_factory=set)
    calls: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    before: dict[str, Callable[[str], int | None]] = field(default_factory=dict)
    after: dict[str, Callable[[str], int | None]] = field(default_factory=dict)
    addresses: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)
    key_set: dict[str, Any] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def add(self, **fields: Any) -> int:
        """Add a product; return its id."""
        with self.lock:
            product_id = len(self.products) + 1
            self.products[product_id] = Product(**fields)
            return product_id

    def stock(self, product_id: int) -> int:
        """Return what can be sold."""
        return self.products[product_id].stock

    def reserve(self, order_id: str, lines: list[dict[str, int]]) -> tuple[int, Any]:
        """Hold all lines or none, once per order."""
        with self.lock:
            held = self.reservations.get(order_id)
            if held == RELEASED:
                return 409, {"code": "reservation_released"}
            if held is None:
                if lacking := [line for line in map(self._check, lines) if line]:
                    return 409, {"code": "insufficient_stock", "items": lacking}
                held = self.reservations[order_id] = [self._hold(**line) for line in lines]
                return 201, {"order_id": order_id, "items": held}
            return 200, {"order_id": order_id, "items": held}

    def _check(self, line: dict[str, int]) -> dict[str, int] | None:
        product = self.products.get(line["product_id"])
        available = product.stock if product and product.status == "active" else 0
        if line["quantity"] <= available:
            return None
        return {
            "product_id": line["product_id"],
            "requested": line["quantity"],
            "available": available,
        }

    def _hold(self, product_id: int, quantity: int) -> dict[str, Any]:
        product = self.products[product_id]
        product.stock -= quantity
        return {**product.show(product_id), "unit_price": product.price, "quantity": quantity}

    def release(self, order_id: str) -> tuple[int, Any]:
        """Give back what an order holds, and hold nothing for it ever again."""
        with self.lock:
            for line in self._held(order_id):
                self.products[line["product_id"]].stock += line["quantity"]
            self.reservations[order_id] = RELEASED
            return 204, None

    def _held(self, order_id: str) -> list[dict[str, Any]]:
        held = self.reservations.get(order_id, RELEASED)
        return [] if held == RELEASED else held

    def holds(self, order_id: str) -> dict[int, int]:
        """Return what is held for an order."""
        return {line["product_id"]: line["quantity"] for line in self._held(order_id)}

    def sell(self, order_id: str) -> None:
        """Hear that an order is paid."""
        self.sold.add(order_id)

    def sell_now(self, order_id: str) -> tuple[int, Any]:
        """Count what is held for an order as sold."""
        self.sold.add(order_id)
        return 204, None

    def kept(self, product_id: int, after: str, limit: int) -> tuple[int, Any]:
        """Show what orders keep of a product."""
        with self.lock:
            items = [
                {"order_id": order_id, "status": "sold" if order_id in self.sold else "held", "quantity": n}
                for order_id in sorted(self.reservations)
                if order_id > after and (n := self.holds(order_id).get(product_id))
            ]
        return 200, {"items": items[:limit]}

    def find_mailed(self, event_ids: list[str]) -> tuple[int, Any]:
        """Show which events have become a mail."""
        if len(event_ids) > 500:
            return 422, {"code": "validation_error"}
        return 200, {"event_ids": [one for one in event_ids if one in self.mailed]}

    def forget(self, event_ids: list[str]) -> tuple[int, Any]:
        """Forget that events without a mail were handled."""
        self.handled -= set(event_ids) - self.mailed
        return 204, None

    def tell(self, event_id: str) -> None:
        """Deliver an event to the notification service."""
        if event_id not in self.handled:
            self.handled.add(event_id)
            self.mailed.add(event_id)

    def read_books(self, after: int, limit: int) -> tuple[int, Any]:
        """Show the books of the products that follow an id."""
        with self.lock:
            ids = sorted(i for i in self.products if i > after)[:limit]
            kept: Counter[tuple[int, bool]] = Counter()
            for order_id in self.reservations:
                for product_id, quantity in self.holds(order_id).items():
                    kept[product_id, order_id in self.sold] += quantity
            items = [
                {
                    "product_id": i,
                    "stock": self.products[i].stock,
                    "delivered": self.products[i].delivered,
                    "returned": 0,
                    "held": kept[i, False],
                    "sold": kept[i, True],
                }
                for i in ids
            ]
            return 200, {"items": items}

    def address(self, user_id: int, address_id: int) -> tuple[int, Any]:
        """Show an address of a user, as the user service does."""
        address = self.addresses.get((user_id, address_id))
        more = {"id": address_id, "is_default": True, "created_at": "2026-11-23T08:00:00Z"}
        return (404, {"code": "not_found"}) if address is None else (200, address | more)

    def lookup(self, ids: list[int]) -> tuple[int, Any]:
        """Show the products that exist."""
        if len(ids) > 100:
            return 422, {"code": "validation_error"}
        items = [
            {
                **self.products[i].show(i),
                "price": self.products[i].price,
                "image_url": None,
                "available": self.products[i].stock,
                "status": self.products[i].status,
            }
            for i in ids
            if i in self.products
        ]
        return 200, {"items": items}


# For whom the token of a call must be, signed with which key, and its scope.
TOKENS = {
    "reserve": ("product-service", KEY, "reservations.write"),
    "release": ("product-service", KEY, "reservations.write"),
    "lookup": ("product-service", KEY, "products.read"),
    "books": ("product-service", KEY, "books.read"),
    "sell": ("product-service", KEY, "reservations.write"),
    "kept": ("product-service", KEY, "books.read"),
    "mailed": ("notification-service", NOTIFICATION_KEY, "notifications.read"),
    "forget": ("notification-service", NOTIFICATION_KEY, "notifications.repair"),
    "address": ("user-service", USER_KEY, "addresses.read"),
}


def make_server(books: ProductBooks) -> ThreadingHTTPServer:
    """Make the server of the books; the caller runs and closes it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 65536  # one packet an answer

        def do_GET(self) -> None:
            if self.path == "/.well-known/jwks.json":
                self.answer(200, books.key_set)
                return
            if self.path.startswith("/internal/v1/books?"):
                query = parse_qs(urlsplit(self.path).query)
                after, limit = int(query["after"][0]), int(query["limit"][0])
                self.act("books", "", lambda: books.read_books(after, limit))
                return
            if "/reservations?" in self.path:
                path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
                product_id = int(path.split("/")[-2])
                after, limit = query["after"][0], int(query["limit"][0])
                self.act("kept", "", lambda: books.kept(product_id, after, limit))
                return
            before, users, user_id, addresses, address_id = self.path.rsplit("/", 4)
            assert (before, users, addresses) == ("/internal/v1", "users", "addresses")
            self.act("address", address_id, lambda: books.address(int(user_id), int(address_id)))

        def do_POST(self) -> None:
            body = orjson.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
            if self.path.endswith("/sale"):
                order_id = self.path.split("/")[-2]
                self.act("sell", order_id, lambda: books.sell_now(order_id))
            elif self.path == "/internal/v1/notifications/lookup":
                self.act("mailed", "", lambda: books.find_mailed(body["event_ids"]))
            elif self.path == "/internal/v1/notifications/forget":
                self.act("forget", "", lambda: books.forget(body["event_ids"]))
            elif self.path == "/internal/v1/reservations":
                self.act("reserve", body["order_id"], lambda: books.reserve(body["order_id"], body["items"]))
            else:
                assert self.path == "/internal/v1/products/lookup"
                self.act("lookup", "", lambda: books.lookup(body["ids"]))

        def do_DELETE(self) -> None:
            order_id = self.path.removeprefix("/internal/v1/reservations/")
            self.act("release", order_id, lambda: books.release(order_id))

        def act(self, call: str, order_id: str, run: Callable[[], tuple[int, Any]]) -> None:
            books.calls.append((call, order_id))
            books.headers.append(dict(self.headers))
            self.check_token(*TOKENS[call])
            try:
                status = books.before[call](order_id) if call in books.before else None
                answer = (status, {}) if status else run()
                status = books.after[call](order_id) if call in books.after else None
                self.answer(*((status, {}) if status else answer))
            except Drop:
                self.close_connection = True

        def check_token(self, audience: str, key: str, scope: str) -> None:
            token = self.headers["Authorization"].removeprefix("Bearer ")
            claims = jwt.decode(token, key, algorithms=["HS256"], audience=audience)
            assert (claims["iss"], claims["scope"]) == ("order-service", scope)

        def answer(self, status: int, body: Any) -> None:
            text = b"" if status == 204 else orjson.dumps(body)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        # Whoever asks may be gone when the answer comes.
        handle_error = lambda *_: None  # noqa: E731

    return Server(("127.0.0.1", 0), Handler)


def total(*amounts: tuple[str, int]) -> str:
    """Add up prices times quantities as the contract writes money."""
    return f"{sum((Decimal(price) * quantity for price, quantity in amounts), Decimal(0)):.2f}"
