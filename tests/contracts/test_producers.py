"""The producers' side: what each function of a service's `events` makes is what the schema promises."""

import importlib
import inspect
import json
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from uuid import UUID

import orjson
import pytest

from chassis.events import NewEvent, encode_cloudevent
from order_service import events as order_events
from order_service.models.orders import Order, OrderItem
from order_service.models.payments import Payment, Refund
from product_service import events as product_events
from product_service.models import Product
from tests.contracts.event_schemas import EVENT_TYPES, problems
from user_service import events as user_events
from user_service.models import User

NOW = datetime(2026, 11, 23, 8, 0, 0, 123456, tzinfo=UTC)
ORDER = UUID("019ab0c4-7f5e-7cc3-98c4-dc0c0c073981")
PAYMENT = UUID("019ab0c4-7f5e-7cc3-98c4-dc0c0c074001")
REFUND = UUID("019ab0c4-7f5e-7cc3-98c4-dc0c0c075001")


def user(**fields):
    """Make a user as the use-cases have one."""
    facts = {"id": 42, "username": "小明", "email": "x@example.com", "locale": "zh-CN", "role": "customer"}
    return User(**(facts | {"active": True} | fields))


def product(**fields):
    """Make a product as the use-cases have one."""
    facts = {"id": 7, "sku": "TEA-7", "name": "龙井茶", "price": Decimal("128.00"), "stock": 4, "sales": 0}
    facts |= {
        "low_stock_threshold": 5,
        "status": "active",
        "version": 1,
        "created_at": NOW,
        "updated_at": NOW,
    }
    return Product(**(facts | fields))


def order(status):
    """Make an order of two lines."""
    line = {"name": "茶", "unit_price": Decimal("9.50"), "quantity": 2}
    facts = {
        "id": ORDER,
        "user_id": 42,
        "status": status,
        "total_amount": Decimal("38.00"),
        "currency": "CNY",
    }
    return Order(
        **facts,
        items=[OrderItem(product_id=n, position=n, sku=f"S-{n}", **line) for n in (1, 2)],
        expires_at=NOW,
        payment_time=NOW,
        carrier="顺丰速运",
        tracking_number="SF1",
    )


def payment():
    """Make the payment of the order."""
    return Payment(id=PAYMENT, order_id=ORDER, method="sandbox", amount=Decimal("38.00"), currency="CNY")


def refund():
    """Make a refund of a part of it."""
    return Refund(id=REFUND, payment_id=PAYMENT, order_id=ORDER, amount=Decimal("5.00"), reason="late")


MADE = {
    "user.registered": lambda: user_events.user_registered(user(phone="+8613800138000")),
    "user.updated": lambda: user_events.user_updated(user(role="admin", active=False, locale="en")),
    "user.recovery.requested": lambda: user_events.recovery_requested(user()),
    "user.email.change.requested": lambda: user_events.email_change_requested(user(), "new@example.com"),
    "product.created": lambda: product_events.product_created(product(), "CNY"),
    "product.updated": lambda: product_events.product_updated(
        product(status="archived", category_id=3), "CNY"
    ),
    "product.stock.updated": lambda: product_events.stock_updated(product(), delta=-2, reason="order"),
    "order.created": lambda: order_events.order_created(order("pending")),
    "order.paid": lambda: order_events.order_paid(order("paid"), payment()),
    "order.cancelled": lambda: order_events.order_cancelled(order("cancelled"), "payment_timeout"),
    "order.shipped": lambda: order_events.order_shipped(order("shipped")),
    "order.completed": lambda: order_events.order_completed(order("completed")),
    "order.refunded": lambda: order_events.order_refunded(order("shipped"), refund()),
}


def published(event: NewEvent) -> dict:
    """Send an event through what the outbox does to it."""
    row = SimpleNamespace(
        **{"id": REFUND, "type": event.type, "subject": event.subject, "occurred_at": NOW, "sequence": 5},
        **{"data": orjson.loads(orjson.dumps(dict(event.data), option=orjson.OPT_UTC_Z))},
        **{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "request_id": "r-1"},
    )
    return json.loads(encode_cloudevent(row, f"{event.type.split('.')[0]}-service"))


def test_every_event_has_its_producer():
    assert set(MADE) == set(EVENT_TYPES)


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_what_is_published_is_what_the_schema_promises(event_type):
    event = MADE[event_type]()
    assert event.type == event_type
    assert problems(published(event)) == []


@pytest.mark.parametrize("package", ["user_service", "product_service", "order_service"])
def test_no_producer_is_left_out(package):
    module = importlib.import_module(f"{package}.events")
    functions = inspect.getmembers(module, inspect.isfunction)
    makers = [
        f for name, f in functions if not name.startswith("_") and f.__annotations__.get("return") is NewEvent
    ]
    assert len(makers) == len(
        [event for event in MADE.values() if event().type.startswith(package.split("_")[0])]
    )
