"""The stock's ledger."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from chassis.db import transaction
from chassis.events import record
from chassis.paging import Page, fetch_page
from product_service import events
from product_service.models import Product, StockMovement
from product_service.services.catalogue import find_product
from product_service.services.products import lock_product


def adjust_stock(session: Session, product_id: int, *, delta: int, reason: str) -> Product:
    """Book a delivery, a loss or a return; the stock never falls below zero."""
    with transaction(session):
        product = lock_product(session, product_id)
        product.adjust_stock(delta)
        session.add(StockMovement(product_id=product_id, delta=delta, reason=reason))
        record(session, events.stock_updated(product, delta=delta, reason=reason))
    return product


def list_movements(
    session: Session, product_id: int, *, cursor: str | None, limit: int
) -> Page[StockMovement]:
    """Fetch a page of a product's ledger, newest first."""
    find_product(session, product_id, archived_too=True)
    statement = select(StockMovement).where(StockMovement.product_id == product_id)
    return fetch_page(session, statement, keys=[StockMovement.id], cursor=cursor, limit=limit)
