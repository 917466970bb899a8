"""Orders, as administrators see and move them."""

from typing import Any
from uuid import UUID

from chassis.api import Answer, Api
from chassis.idempotency import Once
from order_service.errors import OrderNotRefundable, OrderNotShippable, RefundExceedsPayment, RefundRefused
from order_service.routes.wiring import desk
from order_service.schemas import AllOrdersQuery, OrderPage, OrderView, RefundIn, ShipIn
from order_service.services import db, lifecycle, queries, refunds

api = Api("orders-admin")


@api.get("/admin/orders", who="admin", query=AllOrdersQuery, answers={200: OrderPage})
def list_all_orders(query: AllOrdersQuery) -> Any:
    """List everybody's orders, newest first."""
    return queries.list_orders(db.session, **query.model_dump())


@api.get("/admin/orders/<uuid:order_id>", who="admin", answers={200: OrderView})
def get_any_order(order_id: UUID) -> Any:
    """Show anybody's order."""
    return queries.get_order(db.session, order_id)


@api.post(
    "/orders/<uuid:order_id>/ship",
    who="admin",
    body=ShipIn,
    answers={200: OrderView},
    errors=(OrderNotShippable,),
)
def ship_order(body: ShipIn, order_id: UUID) -> Any:
    """Hand a paid order to the carrier."""
    return lifecycle.ship_order(db.session, order_id, **body.model_dump())


@api.post(
    "/orders/<uuid:order_id>/refund",
    who="admin",
    body=RefundIn,
    answers={200: OrderView, 202: OrderView},
    errors=(OrderNotRefundable, RefundExceedsPayment, RefundRefused),
    idempotent=True,
)
def refund_order(body: RefundIn, once: Once, order_id: UUID) -> Answer:
    """Give money back, all that is left without an amount; 202 when the provider finishes later."""
    order, finished = refunds.refund_order(
        db.session, desk(), once, order_id=order_id, amount=body.amount, reason=body.reason
    )
    return Answer(200 if finished else 202, order)
