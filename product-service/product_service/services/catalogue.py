"""Finding products."""

from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from chassis.errors import NotFound
from chassis.paging import Page, fetch_page
from product_service import search
from product_service.models import Category, Product

# sort → the columns that order the list, and whether the greatest comes first
ORDERS = {
    "newest": (["id"], True),
    "price": (["price", "id"], False),
    "-price": (["price", "id"], True),
    "sales": (["sales", "id"], True),
}


def find_product(session: Session, product_id: int, *, archived_too: bool) -> Product:
    """Return a product, or raise `NotFound`."""
    product = session.get(Product, product_id)
    if product is None or (product.status == "archived" and not archived_too):
        raise NotFound
    return product


def list_products(
    session: Session,
    *,
    q: str | None = None,
    category_id: int | None = None,
    min_price: Decimal | None = None,
    max_price: Decimal | None = None,
    in_stock: bool | None = None,
    sort: str | None = None,
    status: str = "active",
    cursor: str | None = None,
    limit: int = 20,
) -> Page[Product]:
    """Fetch a page of the products that meet every condition: one statement, two with a category."""
    conditions = [Product.status == status, *_bounds(min_price, max_price, in_stock)]
    if category_id is not None:
        conditions.append(Product.category_id.in_(_subtree(session, category_id)))
    question = (q or "").strip()
    found: Any = Product
    if question:
        found, relevance = search.find_words(question, *conditions)
        conditions = []
    # Without a question nothing is more relevant than anything else.
    names, descending = ORDERS.get(sort or "", ORDERS["newest"])
    keys = [getattr(found, name) for name in names]
    if question and sort in (None, "relevance"):
        keys = [relevance, *keys]
    statement = select(found).where(*conditions)
    return fetch_page(session, statement, keys=keys, descending=descending, cursor=cursor, limit=limit)


def _bounds(
    min_price: Decimal | None, max_price: Decimal | None, in_stock: bool | None
) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if min_price is not None:
        conditions.append(Product.price >= min_price)
    if max_price is not None:
        conditions.append(Product.price <= max_price)
    if in_stock is not None:
        conditions.append(Product.stock > 0 if in_stock else Product.stock == 0)
    return conditions


def _subtree(session: Session, category_id: int) -> list[int]:
    """Return the ids of a category and of everything below it, so that the planner knows their number."""
    tree = select(Category.id).where(Category.id == category_id).cte("tree", recursive=True)
    below = select(Category.id).join(tree, Category.parent_id == tree.c.id)
    return list(session.scalars(select(tree.union(below).c.id)))
