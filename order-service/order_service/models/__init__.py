"""What the order service keeps, and which moves it allows."""

from order_service.models.base import NOTHING, db, now
from order_service.models.carts import Cart, CartItem
from order_service.models.orders import HIDDEN, Order, OrderItem, Release
from order_service.models.payments import LIVE, Payment, Refund

__all__ = [
    "HIDDEN",
    "LIVE",
    "NOTHING",
    "Cart",
    "CartItem",
    "Order",
    "OrderItem",
    "Payment",
    "Refund",
    "Release",
    "db",
    "now",
]
