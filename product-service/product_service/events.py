"""What happened to products, told to the other services."""

from typing import Any

from chassis.events import NewEvent
from product_service.schemas import show_product


def product_created(product: Any, currency: str) -> NewEvent:
    """Tell that a product was added."""
    return NewEvent("product.created", str(product.id), _product(product, currency))


def product_updated(product: Any, currency: str) -> NewEvent:
    """Tell that a product was changed or archived."""
    return NewEvent("product.updated", str(product.id), _product(product, currency))


def stock_updated(product: Any, *, delta: int, reason: str) -> NewEvent:
    """Tell that a product's stock is now `delta` more than it was."""
    data = {
        "product_id": product.id,
        "sku": product.sku,
        "stock": product.stock,
        "previous_stock": product.stock - delta,
        "delta": delta,
        "reason": reason,
        "low_stock_threshold": product.low_stock_threshold,
    }
    return NewEvent("product.stock.updated", str(product.id), data)


def _product(product: Any, currency: str) -> dict[str, Any]:
    return show_product(product, currency).model_dump(mode="json")
