"""An order service with its surroundings, and the people who use it."""

import dataclasses
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import orjson
from flask import Flask
from sqlalchemy import event, select, text
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.test import TestResponse

from chassis.context import bind_context
from chassis.events import Event, to_cloudevent
from chassis.tokens import Identity, sign_access_token
from order_service import make_jobs
from order_service.payments.base import Charge, Provider, Repayment
from order_service.payments.registry import Providers
from order_service.payments.sandbox import Sandbox
from order_service.payments.signatures import sign
from order_service.services.desk import Desk
from tests.contracts.event_schemas import problems
from tests.order.product_books import ProductBooks

WEBHOOK_SECRET = "webhook-secret-for-tests"
ADDRESS = {
    "recipient": "王小明",
    "phone": "+8613800000000",
    "province": "浙江",
    "city": "杭州",
    "district": "西湖区",
    "street": "龙井路 1 号",
    "postal_code": "310000",
}


class _Quiet(WSGIRequestHandler):
    def log(self, *arguments: Any) -> None:
        """Keep quiet: the app writes what it has to say."""


@dataclass
class Shop:
    """The order service's app, the product service it asks, and the key that signs its users' tokens."""

    app: Flask
    products: ProductBooks
    signing_key: Any

    def person(self, user_id: int, role: str = "customer") -> "Person":
        """Sign somebody in."""
        identity = Identity(user_id, f"session-{user_id}", role)
        return Person(self, user_id, sign_access_token(identity, key=self.signing_key, kid="k1"))

    @property
    def desk(self) -> Desk:
        """The collaborators of the use-cases."""
        desk: Desk = self.app.extensions["desk"]
        return desk

    @contextmanager
    def provider(self, provider: Provider) -> Iterator[None]:
        """Replace the sandbox for a while."""
        providers = Providers([provider], offer_test_methods=True)
        with self.changed(providers=providers):
            yield

    @contextmanager
    def changed(self, **changes: Any) -> Iterator[None]:
        """Change the collaborators for a while."""
        before = self.desk
        self.app.extensions["desk"] = dataclasses.replace(before, **changes)
        try:
            yield
        finally:
            self.app.extensions["desk"] = before

    @contextmanager
    def served(self) -> Iterator[str]:
        """Serve it to callers outside this process; return its address."""
        server = make_server("127.0.0.1", 0, self.app, threaded=True, request_handler=_Quiet)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()

    @contextmanager
    def session(self) -> Iterator[Any]:
        """Open a session as a worker's job has it."""
        with self.app.app_context(), bind_context(request_id=None, traceparent=None):
            yield self.app.extensions["sqlalchemy"].session

    def work(self, *names: str) -> None:
        """Run the named periodic jobs until they say that nothing is left."""
        jobs = {job.name: job for job in make_jobs(self.desk)}
        for name in names:
            with self.session() as session:
                while jobs[name].run(session):
                    pass

    def rows(self, statement: str, **values: Any) -> Sequence[Any]:
        """Run SQL in the service's database."""
        with self.app.app_context(), self.app.extensions["sqlalchemy"].engine.begin() as connection:
            result = connection.execute(text(statement), values)
            return result.all() if result.returns_rows else []

    def age(self, seconds: float, **columns: str) -> None:
        """Make times of all rows of tables so many seconds older."""
        for table, column in columns.items():
            self.rows(f"UPDATE {table} SET {column} = {column} - :s * interval '1 second'", s=seconds)

    def events(self, order_id: str) -> list[dict[str, Any]]:
        """Return the events of an order in their order, each true to its schema."""
        with self.session() as session:
            statement = select(Event).where(Event.subject == order_id).order_by(Event.sequence)
            events = [to_cloudevent(row, "order-service") for row in session.scalars(statement)]
        for one in events:
            one["time"] = one["time"].isoformat().replace("+00:00", "Z")
            assert problems(one) == []
        return events

    def event_types(self, order_id: str) -> list[str]:
        """Return the types of an order's events."""
        return [one["type"] for one in self.events(order_id)]

    def orders_of(self, user_id: int) -> list[tuple[str, str]]:
        """Return id and status of everything that the tables hold of a person's orders."""
        found = self.rows("SELECT id, status FROM orders WHERE user_id = :u ORDER BY created_at", u=user_id)
        return [(str(row.id), row.status) for row in found]

    def captured(self, order_id: str) -> list[Decimal]:
        """Return what the sandbox's books say was captured for an order and not given back."""
        found = self.rows(
            "SELECT sandbox_charges.amount - refunded AS kept"
            " FROM sandbox_charges JOIN payments ON payments.id = key"
            " WHERE order_id = :o AND sandbox_charges.status = 'captured'",
            o=order_id,
        )
        return [row.kept for row in found]

    def webhook(
        self, payment_id: Any, type_: str = "payment.succeeded", *, age: int = 0, **fields: Any
    ) -> TestResponse:
        """Tell of a payment of 20.00 as the sandbox does, so many seconds ago."""
        told = {
            "id": f"evt_{uuid.uuid4()}",
            "type": type_,
            "payment_id": str(payment_id),
            "amount": "20.00",
            "currency": "CNY",
        }
        body = orjson.dumps(told | fields)
        return self.raw_webhook(body, sign(WEBHOOK_SECRET, body, int(time.time()) - age))

    def raw_webhook(self, body: bytes, signature: str | None, method: str = "sandbox") -> TestResponse:
        """Send a webhook as it is."""
        headers = {} if signature is None else {"X-Signature": signature}
        answer = self.app.test_client().post(
            f"/api/v1/payments/webhooks/{method}",
            data=body,
            content_type="application/json",
            headers=headers,
        )
        assert answer.status_code != 500, answer.text
        return answer

    @contextmanager
    def statements(self) -> Iterator[list[str]]:
        """Collect the SQL statements that are sent meanwhile."""
        sent: list[str] = []

        def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            sent.append(statement)

        with self.app.app_context():
            engine = self.app.extensions["sqlalchemy"].engine
        event.listen(engine, "before_cursor_execute", note)
        try:
            yield sent
        finally:
            event.remove(engine, "before_cursor_execute", note)


@dataclass(frozen=True)
class Person:
    """Somebody who is signed in."""

    shop: Shop
    user_id: int
    token: str

    def send(
        self, method: str, path: str, body: Any = None, key: str | None = None, **kw: Any
    ) -> TestResponse:
        """Send a request to a path below the base path."""
        headers = {"Authorization": f"Bearer {self.token}", **kw.pop("headers", {})}
        if key is not None:
            headers["Idempotency-Key"] = key
        if body is not None:
            kw["json"] = body
        answer = self.shop.app.test_client().open(f"/api/v1{path}", method=method, headers=headers, **kw)
        assert answer.status_code != 500, answer.text
        return answer

    def get(self, path: str) -> TestResponse:
        """Send a GET."""
        return self.send("GET", path)

    def put_in_cart(self, product_id: int, quantity: int = 1) -> None:
        """Put a product into the cart."""
        answer = self.send("PUT", f"/cart/items/{product_id}", {"quantity": quantity})
        assert answer.status_code == 200, answer.json

    def order(self, *lines: tuple[int, int], key: str | None = None, **fields: Any) -> TestResponse:
        """Order these products, or the cart."""
        items = [{"product_id": product, "quantity": quantity} for product, quantity in lines]
        return self.send("POST", "/orders", ({"items": items} if items else {}) | fields, key)

    def ordered(self, *lines: tuple[int, int], **fields: Any) -> dict[str, Any]:
        """Order, and return the order."""
        answer = self.order(*lines, **fields)
        assert answer.status_code == 201, answer.json
        return answer.json

    def pay(self, order_id: str, token: str | None = None, key: str | None = None) -> TestResponse:
        """Pay by the sandbox."""
        body = {"method": "sandbox"} | ({"token": token} if token else {})
        return self.send("POST", f"/orders/{order_id}/pay", body, key)

    def bought(self, *lines: tuple[int, int]) -> dict[str, Any]:
        """Order and pay; return the order."""
        answer = self.pay(self.ordered(*lines)["id"])
        assert answer.status_code == 200, answer.json
        return answer.json

    def do(self, what: str, order_id: str, body: Any = None, key: str | None = None) -> TestResponse:
        """Cancel, ship, complete or refund."""
        return self.send("POST", f"/orders/{order_id}/{what}", body, key)

    def see(self, order_id: str) -> dict[str, Any]:
        """Return the order as it is now."""
        answer = self.get(f"/orders/{order_id}")
        assert answer.status_code == 200, answer.json
        return answer.json


class Hooked(Sandbox):
    """The sandbox; before and after it acts something else may happen."""

    def __init__(self, shop: Shop, **hooks: Callable[[uuid.UUID], Any]) -> None:
        super().__init__(lambda: shop.app.extensions["sqlalchemy"].engine, WEBHOOK_SECRET, silent_seconds=0)
        self.hooks = hooks

    def charge(self, payment_id: uuid.UUID, **kw: Any) -> Charge:
        """Take the amount."""
        return self._around("charge", payment_id, lambda: super(Hooked, self).charge(payment_id, **kw))

    def lookup(self, payment_id: uuid.UUID) -> Charge | None:
        """Return what became of a charge."""
        return self._around("lookup", payment_id, lambda: super(Hooked, self).lookup(payment_id))

    def cancel(self, payment_id: uuid.UUID) -> Charge:
        """Stop a charge."""
        return self._around("cancel", payment_id, lambda: super(Hooked, self).cancel(payment_id))

    def refund(self, refund_id: uuid.UUID, **kw: Any) -> Repayment:
        """Give back."""
        return self._around("refund", refund_id, lambda: super(Hooked, self).refund(refund_id, **kw))

    def _around(self, call: str, key: uuid.UUID, run: Callable[[], Any]) -> Any:
        nothing = lambda _: None  # noqa: E731
        instead = self.hooks.get(f"before_{call}", nothing)(key)
        answer = run() if instead is None else instead
        self.hooks.get(f"after_{call}", nothing)(key)
        return answer


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Run calls at the same time; return their results in order."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def refusal(answer: TestResponse) -> tuple[int, str]:
    """Return status and code of a refusal."""
    assert answer.content_type == "application/problem+json", answer.text
    assert answer.json["status"] == answer.status_code
    return answer.status_code, answer.json["code"]


def wrong_fields(answer: TestResponse) -> list[str]:
    """Return the fields that a 422 names."""
    assert refusal(answer) == (422, "validation_error")
    return [error["field"] for error in answer.json["errors"]]
