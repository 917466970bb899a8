"""What the product service takes and answers."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from chassis.api import View
from chassis.money import MoneyIn, MoneyOut
from chassis.reading import Body, Query

MAX_INTEGER = 2**31 - 1
MAX_ID = 10**18 - 1

Id = Annotated[int, Field(ge=1, le=MAX_ID)]
Count = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
Price = Annotated[
    MoneyIn,
    Field(ge=Decimal("0.01"), le=Decimal("9999999.99")),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^(?!0(\.0{1,2})?$)(0|[1-9][0-9]{0,6})(\.[0-9]{1,2})?$"},
                {"type": "number", "minimum": 0.01, "maximum": 9999999.99, "multipleOf": 0.01},
            ],
            "examples": ["19.90"],
        }
    ),
]
Status = Literal["active", "archived"]


def _text(longest: int) -> Any:
    """Constrain a string to 1–`longest` characters that are not all blank."""
    return StringConstraints(strip_whitespace=True, min_length=1, max_length=longest, pattern=r"\S")


def _refuse_stock(_: Any) -> None:
    raise PydanticCustomError("stock", "is changed by POST /api/v1/products/{id}/stock alone")


def _refuse_zero(value: int) -> int:
    if value == 0:
        raise PydanticCustomError("zero", "must not be 0")
    return value


class ProductFields(Body):
    """What an administrator says of a product, new or known."""

    name: Annotated[str, _text(200)]
    price: Price
    sku: Annotated[str, _text(64)] = Field(default_factory=str, examples=["TEA-0007"])
    description: Annotated[str, Field(max_length=20_000)] | None = None
    category_id: Id | None = None
    low_stock_threshold: Count = 5


class ProductIn(ProductFields):
    """A new product; without `sku` one is made."""

    stock: Count = 0


class ProductChange(ProductFields):
    """A product's new state; an optional field that is left out keeps its value."""

    status: Status = "active"
    stock: SkipJsonSchema[Annotated[Any, AfterValidator(_refuse_stock)]] = None


class ProductView(View):
    """A product as everybody sees it."""

    id: int
    sku: str
    name: str
    description: str | None
    price: MoneyOut
    currency: str = ""
    stock: int
    sales: int
    category_id: int | None
    image_url: str | None
    low_stock_threshold: int
    status: Status
    version: int
    created_at: datetime
    updated_at: datetime


def show_product(product: Any, currency: str) -> ProductView:
    """Show a product, its price in the shop's currency."""
    view = ProductView.model_validate(product)
    view.currency = currency
    return view


class ProductPage(View):
    """A page of the catalogue."""

    items: list[ProductView]
    next_cursor: str | None


class Paging(Query):
    """Which page of a list."""

    limit: int = Field(default=20, ge=1, le=100)
    cursor: str | None = None


class ProductQuery(Paging):
    """Which products, and in which order."""

    q: str | None = Field(default=None, max_length=100, description="All words must match, in any order.")
    category_id: Id | None = Field(default=None, description="With everything below it.")
    min_price: MoneyIn | None = None
    max_price: MoneyIn | None = None
    in_stock: bool | None = None
    sort: Literal["newest", "price", "-price", "sales", "relevance"] | None = Field(
        default=None, description="`relevance` is the default with `q`, `newest` without."
    )
    status: Status = Field(default="active", description="Counts for administrators.")


class StockChange(Body):
    """A delivery, a loss, a return (`reason`: `return`)."""

    delta: Annotated[
        int,
        Field(ge=-MAX_INTEGER, le=MAX_INTEGER, json_schema_extra={"not": {"const": 0}}),
        AfterValidator(_refuse_zero),
    ]
    reason: Annotated[str, _text(200)]


class MovementView(View):
    """One line of a product's ledger."""

    id: int
    product_id: int
    delta: int
    reason: str
    order_id: UUID | None
    created_at: datetime


class MovementPage(View):
    """A page of a product's ledger, newest first."""

    items: list[MovementView]
    next_cursor: str | None


class CategoryIn(Body):
    """A new category; without `parent_id` at the top."""

    name: Annotated[str, _text(100)]
    parent_id: Id | None = None


class CategoryChange(CategoryIn):
    """A category's new state; a `parent_id` that is left out keeps its value."""


class CategoryView(View):
    """A category by itself."""

    id: int
    name: str
    parent_id: int | None


class CategoryNode(CategoryView):
    """A category with everything below it."""

    children: list["CategoryNode"]


class CategoryTree(View):
    """All categories."""

    items: list[CategoryNode]
    next_cursor: None = None


class LineIn(Body):
    """How many of which product."""

    product_id: Id
    quantity: Annotated[int, Field(ge=1, le=MAX_INTEGER)]


class ReservationIn(Body):
    """What an order takes out of the stock."""

    order_id: Annotated[UUID, Field(strict=False)]
    items: Annotated[list[LineIn], Field(min_length=1, max_length=100)]


class ReservedLineView(View):
    """What was taken, under today's name and price."""

    product_id: int
    sku: str
    name: str
    image_url: str | None
    unit_price: MoneyOut
    quantity: int


class ReservationView(View):
    """What an order took out of the stock."""

    order_id: UUID
    status: Literal["held", "sold"]
    items: list[ReservedLineView]


class LookupIn(Body):
    """Which products to tell about."""

    ids: Annotated[list[Id], Field(max_length=100)]


class OfferView(View):
    """What a cart needs to know of a product; `available` is 0 when it is archived."""

    id: int
    product_id: int
    sku: str
    name: str
    price: MoneyOut
    image_url: str | None
    available: int
    status: Status


class OfferList(View):
    """The products that are known of those asked for."""

    items: list[OfferView]


class BooksQuery(Query):
    """Which products' books."""

    after: int = Field(default=0, ge=0, le=MAX_ID)
    limit: int = Field(default=100, ge=1, le=500)


class BooksView(View):
    """A product's books: stock = delivered + returned - held - sold."""

    product_id: int
    stock: int
    delivered: int
    returned: int
    held: int
    sold: int


class ReservationsQuery(Query):
    """Which reservations of a product."""

    after: UUID = UUID(int=0)
    limit: int = Field(default=100, ge=1, le=500)


class KeptView(View):
    """What an order keeps of a product."""

    order_id: UUID
    status: Literal["held", "sold"]
    quantity: int


class KeptList(View):
    """What orders keep of a product, by their ids."""

    items: list[KeptView]


class BooksList(View):
    """The books of some products, by id."""

    items: list[BooksView]
