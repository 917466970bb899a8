"""Products and their stock."""

from flask import current_app, request

from chassis.api import Answer, Api
from chassis.paging import Page
from chassis.tokens import Identity
from product_service.errors import InsufficientStock, SkuTaken, StaleVersion
from product_service.etags import etag_of, versions_in
from product_service.schemas import (
    MovementPage,
    Paging,
    ProductChange,
    ProductIn,
    ProductPage,
    ProductQuery,
    ProductView,
    StockChange,
    show_product,
)
from product_service.services import catalogue, db, products, stock

api = Api("products")


@api.get("/products", who="optional", query=ProductQuery, answers={200: ProductPage})
def list_products(query: ProductQuery, user: Identity | None) -> Page[ProductView]:
    """List or search the products for sale."""
    wanted = query.model_dump() if _sees_archived(user) else {**query.model_dump(), "status": "active"}
    page = catalogue.list_products(db.session, **wanted)
    return Page([show_product(product, _currency()) for product in page.items], page.next_cursor)


@api.get(
    "/products/<id:product_id>",
    who="optional",
    answers={200: ProductView, 304: None},
    headers=("If-None-Match",),
)
def get_product(product_id: int, user: Identity | None) -> Answer:
    """Show one product; an archived one to administrators alone."""
    product = catalogue.find_product(db.session, product_id, archived_too=_sees_archived(user))
    if request.if_none_match.contains_weak(etag_of(product).strip('"')):
        return Answer(304, None, _headers(product))
    return _shown(product)


@api.post("/products", who="admin", body=ProductIn, answers={201: ProductView}, errors=(SkuTaken,))
def create_product(body: ProductIn) -> Answer:
    """Add a product."""
    values = body.model_dump(exclude_unset=True)
    product = products.create_product(db.session, values, currency=_currency())
    return _shown(product, 201, {"Location": f"/api/v1/products/{product.id}"})


@api.put(
    "/products/<id:product_id>",
    who="admin",
    body=ProductChange,
    answers={200: ProductView},
    errors=(SkuTaken, StaleVersion),
    headers=("If-Match",),
)
def change_product(product_id: int, body: ProductChange) -> Answer:
    """Change a product; `If-Match` guards against overwriting another's change."""
    changes = body.model_dump(exclude_unset=True)
    accepted = versions_in(request.if_match) if "If-Match" in request.headers else None
    product = products.change_product(
        db.session, product_id, changes, accepted=accepted, currency=_currency()
    )
    return _shown(product)


@api.delete("/products/<id:product_id>", who="admin", answers={204: None})
def archive_product(product_id: int) -> None:
    """Take a product out of the shop; orders keep their copy of it."""
    products.archive_product(db.session, product_id, currency=_currency())


@api.post(
    "/products/<id:product_id>/stock",
    who="admin",
    body=StockChange,
    answers={200: ProductView},
    errors=(InsufficientStock,),
)
def adjust_stock(product_id: int, body: StockChange) -> Answer:
    """Book a delivery, a loss or a return."""
    return _shown(stock.adjust_stock(db.session, product_id, delta=body.delta, reason=body.reason))


@api.get("/products/<id:product_id>/stock/movements", who="admin", query=Paging, answers={200: MovementPage})
def list_movements(product_id: int, query: Paging) -> object:
    """List a product's ledger, newest first; its deltas add up to the stock."""
    return stock.list_movements(db.session, product_id, cursor=query.cursor, limit=query.limit)


def _shown(product: object, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    return Answer(status, show_product(product, _currency()), {**_headers(product), **(headers or {})})


def _headers(product: object) -> dict[str, str]:
    # To be kept, but asked about before every use.
    return {"ETag": etag_of(product), "Cache-Control": "private, no-cache"}


def _sees_archived(user: Identity | None) -> bool:
    return user is not None and user.is_admin


def _currency() -> str:
    currency: str = current_app.config["SETTINGS"].currency
    return currency
