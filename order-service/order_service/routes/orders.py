"""Orders, as their buyer sees them."""

from typing import Any
from uuid import UUID

from chassis.api import Answer, Api
from chassis.idempotency import Once
from chassis.tokens import Identity
from order_service.errors import (
    CartAlreadyOrdered,
    CartEmpty,
    InsufficientStock,
    OrderNotCancellable,
    OrderNotCompletable,
    PriceChanged,
)
from order_service.routes.wiring import desk
from order_service.schemas import CancelIn, HistoryView, OrderIn, OrderPage, OrderView, OwnOrdersQuery
from order_service.services import db, lifecycle, placing, queries

api = Api("orders")


@api.post(
    "/orders",
    who="user",
    body=OrderIn,
    answers={201: OrderView},
    errors=(CartEmpty, CartAlreadyOrdered, InsufficientStock, PriceChanged),
    idempotent=True,
)
def place_order(body: OrderIn, user: Identity, once: Once) -> Answer:
    """Place an order of the given items, or else of the cart, which it empties."""
    address = body.address.model_dump() if body.address else None
    draft = placing.Draft(
        user.user_id, body.lines(), address, body.address_id, body.remark, body.expected_total_amount
    )
    order = placing.place_order(db.session, desk(), once, draft)
    return Answer(201, order, {"Location": f"/api/v1/orders/{order.id}"})


@api.get("/orders", who="user", query=OwnOrdersQuery, answers={200: OrderPage})
def list_own_orders(query: OwnOrdersQuery, user: Identity) -> Any:
    """List one's own orders, newest first."""
    return queries.list_orders(db.session, user_id=user.user_id, **query.model_dump())


@api.get("/orders/<uuid:order_id>", who="user", answers={200: OrderView})
def get_own_order(user: Identity, order_id: UUID) -> Any:
    """Show one of one's own orders."""
    return queries.get_order(db.session, order_id, user_id=user.user_id)


@api.post(
    "/orders/<uuid:order_id>/cancel",
    who="user",
    body=CancelIn,
    answers={200: OrderView},
    errors=(OrderNotCancellable,),
)
def cancel_order(body: CancelIn, user: Identity, order_id: UUID) -> Any:
    """Cancel an order before it is shipped; a paid one is refunded."""
    owner, reason = (None, "cancelled_by_admin") if user.is_admin else (user.user_id, "cancelled_by_user")
    return lifecycle.cancel_order(db.session, desk(), order_id, user_id=owner, reason=body.reason or reason)


@api.post(
    "/orders/<uuid:order_id>/complete", who="user", answers={200: OrderView}, errors=(OrderNotCompletable,)
)
def complete_order(user: Identity, order_id: UUID) -> Any:
    """Confirm receipt."""
    return lifecycle.complete_order(db.session, order_id, user_id=user.user_id)


@api.get("/orders/<uuid:order_id>/history", who="user", answers={200: HistoryView})
def get_history(user: Identity, order_id: UUID) -> Any:
    """Show all that happened to an order, oldest first."""
    owner = None if user.is_admin else user.user_id
    return {"items": queries.order_history(db.session, order_id, user_id=owner)}
