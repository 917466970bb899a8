"""What tests do with the product service, in few words."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from flask import Flask
from sqlalchemy import event, func, select, text
from werkzeug.test import TestResponse

from chassis.db import Base
from chassis.events import Event, to_cloudevent
from chassis.tokens import sign_service_token
from product_service.models import Product, StockMovement, db

ORDER_KEY = "order-product-key-for-tests-0123"
T = TypeVar("T")


class Shop:
    """The service as an administrator, a visitor and the order service see it."""

    def __init__(self, app: Flask, admin: dict[str, str]) -> None:
        self.app, self.admin = app, admin

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> TestResponse:
        """Send one request; a keyword `If_Match` is the header `If-Match`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.app.test_client().open(path, method=method, json=body, headers=named)

    def get(self, path: str, **headers: str) -> TestResponse:
        """Read as a visitor."""
        return self.call("GET", "/api/v1" + path, **headers)

    def manage(self, method: str, path: str, body: Any = None, **headers: str) -> TestResponse:
        """Do something as an administrator."""
        return self.call(method, "/api/v1" + path, body, **self.admin, **headers)

    def add(self, name: str = "龙井茶 Longjing Tea", price: str = "19.90", **fields: Any) -> dict[str, Any]:
        """Add a product."""
        answer = self.manage("POST", "/products", {"name": name, "price": price, **fields})
        assert answer.status_code == 201, answer.text
        return answer.get_json()

    def add_category(self, name: str = "茶 Tea", parent_id: int | None = None) -> int:
        """Add a category and return its id."""
        answer = self.manage("POST", "/categories", {"name": name, "parent_id": parent_id})
        assert answer.status_code == 201, answer.text
        return answer.get_json()["id"]

    def product(self, product_id: int) -> dict[str, Any]:
        """Return a product, archived or not."""
        return self.manage("GET", f"/products/{product_id}").get_json()

    def peer(self, method: str, path: str, body: Any = None, *, scope: str) -> TestResponse:
        """Call as the order service."""
        token = sign_service_token(ORDER_KEY, issuer="order-service", audience="product-service", scope=scope)
        return self.call(method, "/internal/v1" + path, body, Authorization=f"Bearer {token}")

    def reserve(self, lines: dict[int, int] | Sequence[tuple[int, int]], order_id: str = "") -> TestResponse:
        """Take pieces by product id out of the stock."""
        pairs = lines.items() if isinstance(lines, dict) else lines
        items = [{"product_id": product_id, "quantity": quantity} for product_id, quantity in pairs]
        body = {"order_id": order_id or new_id(), "items": items}
        return self.peer("POST", "/reservations", body, scope="reservations.write")

    def release(self, order_id: str) -> TestResponse:
        """Give an order's pieces back."""
        return self.peer("DELETE", f"/reservations/{order_id}", scope="reservations.write")

    def events(self, *types: str) -> list[dict[str, Any]]:
        """Return the recorded events, as they are sent."""
        statement = select(Event).order_by(Event.sequence)
        if types:
            statement = statement.where(Event.type.in_(types))
        with self.app.app_context():
            return [to_cloudevent(row, "product-service") for row in db.session.scalars(statement)]

    def sql(self, statement: str, **values: Any) -> list[Any]:
        """Run SQL of the test's own."""
        with self.app.app_context():
            result = db.session.execute(text(statement), values)
            rows = list(result) if result.returns_rows else []
            db.session.commit()
            return rows

    def assert_ledger_adds_up(self) -> None:
        """Check that every product's movements, and its stock events, add up to its stock."""
        sums = select(StockMovement.product_id, func.sum(StockMovement.delta)).group_by(
            StockMovement.product_id
        )
        with self.app.app_context():
            stock = {p: s for p, s in db.session.execute(select(Product.id, Product.stock)) if s}
            booked = {p: int(s) for p, s in db.session.execute(sums) if s}
        told: dict[int, int] = {}
        for one in self.events("product.stock.updated"):
            data = one["data"]
            # Each event goes on from where the last one stopped.
            assert data["previous_stock"] == told.get(data["product_id"], 0)
            assert data["previous_stock"] + data["delta"] == data["stock"] >= 0
            told[data["product_id"]] = data["stock"]
        assert booked == stock == {p: s for p, s in told.items() if s}

    @contextmanager
    def counted(self) -> Iterator[list[str]]:
        """Collect the statements that are sent meanwhile."""
        seen: list[str] = []

        def note(_c: Any, _k: Any, statement: str, *_: Any) -> None:
            seen.append(statement)

        with self.app.app_context():
            engine = db.engine
        event.listen(engine, "before_cursor_execute", note)
        try:
            yield seen
        finally:
            event.remove(engine, "before_cursor_execute", note)


def empty(app: Flask) -> None:
    """Take everything out of the tables, and count ids from 1 again."""
    tables = ", ".join(
        table.name for table in reversed(db.metadata.sorted_tables + Base.metadata.sorted_tables)
    )
    with app.app_context():
        db.session.execute(text(f"TRUNCATE {tables} RESTART IDENTITY CASCADE"))
        db.session.commit()


def new_id() -> str:
    """Make an order's id."""
    return str(uuid.uuid4())


def at_once(work: Callable[[int], T], times: int, threads: int = 40) -> list[T]:
    """Do something many times in as many threads, and return what came out."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, range(times)))


def settled(act: Callable[[], TestResponse], tries: int = 20) -> int:
    """Do something until it is answered otherwise than 503, as a caller does on a machine that is busy."""
    for _ in range(tries):
        status = act().status_code
        if status != 503:
            break
    return status


def names(page: TestResponse) -> list[str]:
    """Return the names on a page, in order."""
    assert page.status_code == 200, page.text
    return [item["name"] for item in page.get_json()["items"]]
