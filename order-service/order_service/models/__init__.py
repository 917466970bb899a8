"""What the order service keeps, and which moves it allows."""

from order_service.models.base import NOTHING, db, now
from order_service.models.carts import Cart, CartItem
from order_service.models.orders import HIDDEN, Order, OrderItem, Release
from order_service.models.payments import LIVE, Payment, Refund
from order_service.models.webhooks import PaymentAnomaly, Webhook

__all__ = [
    "HIDDEN",
    "LIVE",
    "NOTHING",
    "Cart",
    "CartItem",
    "Order",
    "OrderItem",
    "Payment",
    "PaymentAnomaly",
    "Refund",
    "Release",
    "Webhook",
    "db",
    "now",
]
