"""Adding, changing and archiving products."""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from chassis.db import transaction
from chassis.errors import Invalid, NotFound
from chassis.events import record
from product_service import events
from product_service.errors import SkuTaken, StaleVersion
from product_service.models import Product, StockMovement

# No letters that are read as others.
SKU_LETTERS = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"


def create_product(session: Session, values: Mapping[str, Any], *, currency: str) -> Product:
    """Add a product; its initial stock is the ledger's first line."""
    product = Product(**{"sku": make_sku(), **values})
    with transaction(session):
        session.add(product)
        _flush(session)
        happened = [events.product_created(product, currency)]
        if product.stock:
            session.add(StockMovement(product_id=product.id, delta=product.stock, reason="initial"))
            happened.append(events.stock_updated(product, delta=product.stock, reason="initial"))
        record(session, *happened)
    return product


def change_product(
    session: Session,
    product_id: int,
    changes: Mapping[str, Any],
    *,
    accepted: frozenset[int] | None = None,
    currency: str,
) -> Product:
    """Change a product, if its version is one of the `accepted` (None accepts any)."""
    with transaction(session):
        product = lock_product(session, product_id)
        if accepted is not None and product.version not in accepted:
            raise StaleVersion
        product.change(changes)
        _flush(session)
        record(session, events.product_updated(product, currency))
    return product


def archive_product(session: Session, product_id: int, *, currency: str) -> None:
    """Take a product out of the shop; once more changes nothing."""
    with transaction(session):
        product = lock_product(session, product_id)
        if product.status == "archived":
            return
        product.archive()
        _flush(session)
        record(session, events.product_updated(product, currency))


def lock_product(session: Session, product_id: int) -> Product:
    """Return a product that nobody else can change until the transaction ends."""
    product = session.get(Product, product_id, with_for_update=True, populate_existing=True)
    if product is None:
        raise NotFound
    return product


def make_sku() -> str:
    """Make a sku of 50 random bits."""
    return "P-" + "".join(secrets.choice(SKU_LETTERS) for _ in range(10))


def _flush(session: Session) -> None:
    with _explained():
        # The event needs the id and times that the database gives, and the constraints' word.
        session.flush()


@contextmanager
def _explained() -> Iterator[None]:
    """Turn the constraints that decide between concurrent writers into the errors they stand for."""
    try:
        yield
    except IntegrityError as error:
        constraint = error.orig.diag.constraint_name  # type: ignore[union-attr]
        if constraint == "uq_products_sku":
            raise SkuTaken from error
        if constraint == "fk_products_category_id_categories":
            raise Invalid("category_id", "there is no such category") from error
        raise
