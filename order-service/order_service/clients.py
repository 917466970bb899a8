"""Calls to the product service, the user service and the notification service."""

import random
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Literal, TypeVar
from uuid import UUID

import orjson
import urllib3
from pydantic import BaseModel, ConfigDict, ValidationError
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
)

from chassis import context
from chassis.errors import DependencyAway
from chassis.logs import get_logger
from chassis.money import MoneyIn
from chassis.silence import Silence
from chassis.tokens import sign_service_token
from order_service.errors import InsufficientStock, ReservationReleased

CONNECT_SECONDS = 0.3
READ_SECONDS = 2.0
# urllib3 takes no 0.
LEAST_SECONDS = 0.01
# Refused, reset, or a kept connection gone stale; never a silence, which would wait twice.
WORTH_A_RETRY = (NewConnectionError, ConnectTimeoutError, ProtocolError)

Lines = Sequence[dict[str, int]]
A = TypeVar("A", bound=BaseModel)
T = TypeVar("T")

log = get_logger(__name__)


class ReservedItem(BaseModel):
    """A line that is held for an order, with its price and name of that moment."""

    product_id: int
    sku: str
    name: str
    unit_price: MoneyIn
    quantity: int


class Product(BaseModel):
    """A product as it is now."""

    product_id: int
    sku: str
    name: str
    price: MoneyIn
    image_url: str | None = None
    available: int
    status: str

    @property
    def is_active(self) -> bool:
        """Tell whether it can be ordered."""
        return self.status == "active"

    @property
    def unit_price(self) -> Decimal:
        """Its price of today."""
        return self.price


class Books(BaseModel):
    """What the product service's books say of a product."""

    product_id: int
    stock: int
    delivered: int
    returned: int
    held: int
    sold: int


class Kept(BaseModel):
    """What the product service keeps of a product for an order."""

    order_id: UUID
    status: Literal["held", "sold"]
    quantity: int


class _Reservation(BaseModel):
    items: list[ReservedItem]


class _Address(BaseModel):
    # What somebody's address is belongs in no log.
    model_config = ConfigDict(hide_input_in_errors=True)

    recipient: str
    phone: str
    province: str
    city: str
    district: str
    street: str
    postal_code: str | None


class _Products(BaseModel):
    items: list[Product]


class _BooksPage(BaseModel):
    items: list[Books]


class _KeptPage(BaseModel):
    items: list[Kept]


class _EventIds(BaseModel):
    event_ids: list[UUID]


class Peer:
    """Another service; whatever leaves its answer open is `DependencyAway`."""

    name = ""

    def __init__(self, url: str, key: str) -> None:
        self._url, self._key = url, key
        self._audience = self.name.replace(" ", "-")
        self._pool = urllib3.PoolManager(maxsize=16)
        self._silence = Silence(READ_SECONDS)

    def _read(self, status: int, good: Sequence[int], answer: bytes, model: type[A]) -> A:
        if status in good:
            try:
                return model.model_validate_json(answer)
            except ValidationError as error:
                log.error("peer answered unexpectedly", peer=self.name, reason=str(error))
                raise DependencyAway(self.name) from error
        log.error("peer answered unexpectedly", peer=self.name, status=status)
        raise DependencyAway(self.name)

    def _do(self, method: str, path: str, scope: str, body: Any = None) -> None:
        status, _ = self._call(method, path, scope, body)
        if status != 204:
            log.error("peer answered unexpectedly", peer=self.name, status=status)
            raise DependencyAway(self.name)

    def _call(self, method: str, path: str, scope: str, body: Any) -> tuple[int, bytes]:
        headers = {
            "Authorization": "Bearer " + self._token(scope),
            "Content-Type": "application/json",
            "X-Request-ID": context.request_id.get(),
            "traceparent": context.traceparent.get(),
        }
        sent = None if body is None else orjson.dumps(body)

        def send() -> tuple[int, bytes]:
            read_seconds = max(LEAST_SECONDS, self._silence.seconds())
            connect_seconds = max(LEAST_SECONDS, context.seconds_left(CONNECT_SECONDS))
            try:
                answer = self._pool.request(
                    method,
                    self._url + path,
                    body=sent,
                    headers=headers,
                    timeout=urllib3.Timeout(connect=connect_seconds, read=read_seconds),
                    retries=False,
                    redirect=False,
                )
            except ReadTimeoutError:
                self._silence.begins(after=read_seconds)
                raise
            self._silence.ends()
            return answer.status, answer.data

        try:
            return send_twice(send)
        except HTTPError as error:
            log.warning("peer did not answer", peer=self.name, reason=type(error).__name__)
            raise DependencyAway(self.name) from error

    def _token(self, scope: str) -> str:
        return sign_service_token(self._key, issuer="order-service", audience=self._audience, scope=scope)


class ProductService(Peer):
    """The product service."""

    name = "product service"

    def reserve(self, order_id: UUID, lines: Lines) -> dict[int, ReservedItem]:
        """Hold the lines for an order, all or none; return them by product.

        Raises `InsufficientStock` when nothing is held, `ReservationReleased` when nothing will ever be.
        """
        body = {"order_id": str(order_id), "items": list(lines)}
        status, answer = self._call("POST", "/internal/v1/reservations", "reservations.write", body)
        if status == 409:
            raise _refusal(answer)
        held = {item.product_id: item for item in self._read(status, (200, 201), answer, _Reservation).items}
        if {p: item.quantity for p, item in held.items()} != {x["product_id"]: x["quantity"] for x in lines}:
            log.error("product service holds other lines than asked for", order_id=str(order_id))
            raise DependencyAway(self.name)
        return held

    def release(self, order_id: UUID) -> None:
        """Give back what is held for an order, and whatever a late call may still want to hold."""
        self._do("DELETE", f"/internal/v1/reservations/{order_id}", "reservations.write")

    def mark_sold(self, order_id: UUID) -> None:
        """Count what is held for an order as sold; what was given back stays where it is."""
        self._do("POST", f"/internal/v1/reservations/{order_id}/sale", "reservations.write")

    def lookup(self, product_ids: Sequence[int]) -> dict[int, Product]:
        """Return those of the products that exist."""
        body = {"ids": list(product_ids)}
        status, answer = self._call("POST", "/internal/v1/products/lookup", "products.read", body)
        return {
            product.product_id: product for product in self._read(status, (200,), answer, _Products).items
        }

    def read_books(self, *, after: int, limit: int) -> list[Books]:
        """Return the books of the products that follow an id, by id."""
        path = f"/internal/v1/books?after={after}&limit={limit}"
        status, answer = self._call("GET", path, "books.read", None)
        return self._read(status, (200,), answer, _BooksPage).items

    def list_kept(self, product_id: int, *, after: UUID, limit: int) -> list[Kept]:
        """Return what is kept of a product for the orders that follow an id, by id."""
        path = f"/internal/v1/products/{product_id}/reservations?after={after}&limit={limit}"
        status, answer = self._call("GET", path, "books.read", None)
        return self._read(status, (200,), answer, _KeptPage).items


class UserService(Peer):
    """The user service."""

    name = "user service"

    def get_address(self, user_id: int, address_id: int) -> dict[str, str | None] | None:
        """Return one of a user's delivery addresses, None when it is none of theirs."""
        path = f"/internal/v1/users/{user_id}/addresses/{address_id}"
        status, answer = self._call("GET", path, "addresses.read", None)
        return None if status == 404 else self._read(status, (200,), answer, _Address).model_dump()


class NotificationService(Peer):
    """The notification service."""

    name = "notification service"

    def find_mailed(self, event_ids: Sequence[UUID]) -> set[UUID]:
        """Return those of the events that have become a mail; at most 500 at once."""
        body = {"event_ids": list(event_ids)}
        status, answer = self._call("POST", "/internal/v1/notifications/lookup", "notifications.read", body)
        return set(self._read(status, (200,), answer, _EventIds).event_ids)

    def forget_handled(self, event_ids: Sequence[UUID]) -> None:
        """Have those of the events that have become no mail count when they come again."""
        body = {"event_ids": list(event_ids)}
        self._do("POST", "/internal/v1/notifications/forget", "notifications.repair", body)


def send_twice(send: Callable[[], T]) -> T:
    """Send; once more when the connection failed: every call here may be repeated."""
    try:
        return send()
    except NameResolutionError:
        raise
    except WORTH_A_RETRY:
        time.sleep(random.uniform(0, 0.05))
        return send()


def _refusal(answer: bytes) -> Exception:
    try:
        problem: dict[str, Any] = orjson.loads(answer)
        if problem.get("code") == "reservation_released":
            return ReservationReleased()
        if problem.get("code") == "insufficient_stock":
            return InsufficientStock(items=problem["items"])
    except (orjson.JSONDecodeError, KeyError, AttributeError) as error:
        log.error("peer answered unexpectedly", peer=ProductService.name, reason=type(error).__name__)
    return DependencyAway(ProductService.name)
