"""What the order service takes and answers."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from chassis.api import View
from chassis.money import MoneyIn, MoneyOut
from chassis.reading import Body, Query

MOST_PIECES = 99
MOST_LINES = 100

Status = Literal["pending", "paid", "shipped", "completed", "cancelled"]
PaymentStatus = Literal[
    "processing",
    "requires_action",
    "captured",
    "declined",
    "failed",
    "refunding",
    "partially_refunded",
    "refunded",
]


def _rfc3339(value: Any) -> Any:
    """Refuse the numbers and dates that pydantic would take for a time as well."""
    if isinstance(value, str) and not re.match(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d", value, re.ASCII):
        raise PydanticCustomError("time", "must be a time such as 2026-11-23T08:00:00Z")
    return value


def _in_utc(value: datetime) -> datetime:
    """Refuse the few times that exist in their own zone only."""
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise PydanticCustomError("time", "must be a time of the years 1 to 9999") from error


Moment = Annotated[AwareDatetime, BeforeValidator(_rfc3339), AfterValidator(_in_utc)]
ProductId = Annotated[int, Field(ge=1, le=10**18 - 1)]
Quantity = Annotated[int, Field(ge=1, le=MOST_PIECES)]
Word = Annotated[str, Field(min_length=1, max_length=100, pattern=r"\S")]


class QuantityIn(Body):
    """How many of a product the cart shall hold."""

    quantity: Quantity


class LineIn(Body):
    """So many pieces of a product."""

    product_id: ProductId
    quantity: Quantity


def merge_lines(lines: list[LineIn]) -> list[LineIn]:
    """Make one line of each product."""
    pieces: dict[int, int] = {}
    for line in lines:
        pieces[line.product_id] = pieces.get(line.product_id, 0) + line.quantity
    if any(quantity > MOST_PIECES for quantity in pieces.values()):
        raise PydanticCustomError("pieces", "must hold at most 99 pieces of one product")
    return [LineIn(product_id=product, quantity=quantity) for product, quantity in pieces.items()]


class AddressIn(Body):
    """Where the goods go."""

    recipient: Word
    phone: Annotated[str, Field(min_length=3, max_length=32)]
    province: Word
    city: Word
    district: Word
    street: Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]
    postal_code: Annotated[str, Field(min_length=1, max_length=16)] | None = None


class OrderIn(Body):
    """An order: of these items, or else of the cart."""

    items: (
        Annotated[list[LineIn], Field(min_length=1, max_length=MOST_LINES), AfterValidator(merge_lines)]
        | None
    ) = None
    address: AddressIn | None = None
    address_id: Annotated[int, Field(ge=1, le=10**18 - 1)] | None = None
    remark: Annotated[str, Field(max_length=500)] | None = None
    expected_total_amount: MoneyIn | None = None

    @field_validator("address_id")
    @classmethod
    def _not_together_with_address(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("address") is not None:
            raise PydanticCustomError("address", "must not be given together with address")
        return value

    def lines(self) -> list[dict[str, int]] | None:
        """Return the lines as they are kept with the order."""
        return None if self.items is None else [line.model_dump() for line in self.items]


class PayIn(Body):
    """How the buyer pays; the token stands for what the provider knows of the buyer."""

    method: Annotated[str, Field(min_length=1, max_length=40)]
    token: Annotated[str, Field(min_length=1, max_length=255)] | None = None


class WebhookIn(Body):
    """What a provider tells of a payment; `id` is the same whenever it tells the same again."""

    id: Annotated[str, Field(min_length=1, max_length=255)]
    type: Literal["payment.succeeded", "payment.failed"]
    # Strict would refuse the text that every UUID in JSON is.
    payment_id: Annotated[UUID, Field(strict=False)]
    amount: MoneyIn
    currency: Annotated[str, Field(pattern=r"^[A-Za-z]{3}$")]


class CancelIn(Body):
    """Why, if there is anything to say."""

    reason: Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")] | None = None


class ShipIn(Body):
    """Who carries the goods."""

    carrier: Word
    tracking_number: Word


class RefundIn(Body):
    """How much goes back, all that is left when absent, and why."""

    amount: Annotated[MoneyIn, Field(gt=0, le=Decimal("999999999999.99"))] | None = None
    reason: Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]


class OwnOrdersQuery(Query):
    """Which of one's own orders."""

    status: Status | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: str | None = None


class AllOrdersQuery(OwnOrdersQuery):
    """Which of all orders; both times are included."""

    user_id: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None
    created_from: Moment | None = None
    created_to: Moment | None = None


class CartItemView(View):
    """A product in the cart, with today's price and what can be had of it now."""

    product_id: int
    name: str
    image_url: str | None
    unit_price: MoneyOut
    quantity: int
    subtotal: MoneyOut
    available: int


class CartView(View):
    """The cart, at today's prices."""

    items: list[CartItemView]
    total_amount: MoneyOut
    currency: str


class OrderItemView(View):
    """A line of an order."""

    product_id: int
    sku: str
    name: str
    unit_price: MoneyOut
    quantity: int
    subtotal: MoneyOut


class AddressView(View):
    """Where the goods go."""

    recipient: str
    phone: str
    province: str
    city: str
    district: str
    street: str
    postal_code: str | None


class PaymentView(View):
    """The payment of an order."""

    id: UUID
    method: str
    status: PaymentStatus
    amount: MoneyOut
    refunded_amount: MoneyOut


class BegunPaymentView(PaymentView):
    """A payment that the provider finishes later, maybe after the buyer did something there."""

    redirect_url: str | None
    client_secret: str | None


class ShipmentView(View):
    """Who carries the goods."""

    carrier: str
    tracking_number: str
    shipped_at: datetime


class OrderView(View):
    """An order."""

    id: UUID
    user_id: int
    status: Status
    total_amount: MoneyOut
    currency: str
    items: list[OrderItemView]
    address: AddressView | None
    remark: str | None
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    payment_time: datetime | None
    payment: PaymentView | None
    shipment: ShipmentView | None


class BegunPaymentOrderView(OrderView):
    """An order whose payment is finished later."""

    payment: BegunPaymentView | None


class OrderPage(View):
    """A page of orders, newest first."""

    items: list[OrderView]
    next_cursor: str | None


class HistoryEntryView(View):
    """Something that happened to an order."""

    type: str
    occurred_at: datetime
    data: dict[str, Any]


class HistoryView(View):
    """All that happened to an order, oldest first."""

    items: list[HistoryEntryView]
    next_cursor: None = None


class MethodView(View):
    """A way to pay."""

    method: str
    name: str


class MethodsView(View):
    """The ways to pay."""

    items: list[MethodView]
    next_cursor: None = None
