"""What the order service tells the others."""

from typing import Any

from chassis.events import NewEvent
from chassis.money import show_money


def order_created(order: Any) -> NewEvent:
    """Tell that an order was placed and its stock is reserved."""
    return _event("order.created", order)


def order_paid(order: Any, payment: Any) -> NewEvent:
    """Tell that an order's money is there."""
    return _event(
        "order.paid",
        order,
        payment_id=payment.id,
        method=payment.method,
        payment_time=order.payment_time,
    )


def order_shipped(order: Any) -> NewEvent:
    """Tell that an order was handed to the carrier."""
    return _event("order.shipped", order, carrier=order.carrier, tracking_number=order.tracking_number)


def order_completed(order: Any) -> NewEvent:
    """Tell that the buyer has the goods."""
    return _event("order.completed", order)


def order_cancelled(order: Any, reason: str) -> NewEvent:
    """Tell that an order is cancelled; its stock goes back."""
    return _event("order.cancelled", order, reason=reason)


def order_refunded(order: Any, refund: Any) -> NewEvent:
    """Tell that money went back."""
    return _event(
        "order.refunded",
        order,
        refund_id=refund.id,
        amount=show_money(refund.amount),
        reason=refund.reason,
    )


def _event(kind: str, order: Any, **more: Any) -> NewEvent:
    data = {
        "order_id": order.id,
        "user_id": order.user_id,
        "status": order.status,
        "total_amount": show_money(order.total_amount),
        "currency": order.currency,
        "items": [
            {
                "product_id": item.product_id,
                "sku": item.sku,
                "name": item.name,
                "unit_price": show_money(item.unit_price),
                "quantity": item.quantity,
                "subtotal": show_money(item.subtotal),
            }
            for item in order.items
        ],
        "expires_at": order.expires_at,
        **more,
    }
    return NewEvent(kind, str(order.id), data)
