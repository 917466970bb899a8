"""Paying."""

from typing import Any
from uuid import UUID

from flask import request

from chassis.api import Answer, Api
from chassis.idempotency import Once
from chassis.tokens import Identity
from order_service.errors import InvalidSignature, OrderNotPayable, PaymentDeclined, PaymentInProgress
from order_service.routes.wiring import desk
from order_service.schemas import BegunPaymentOrderView, MethodsView, OrderView, PayIn, WebhookIn
from order_service.services import db, paying, webhooks

api = Api("payments")


@api.post(
    "/orders/<uuid:order_id>/pay",
    who="user",
    body=PayIn,
    answers={200: OrderView, 202: BegunPaymentOrderView},
    errors=(PaymentDeclined, PaymentInProgress, OrderNotPayable),
    idempotent=True,
)
def pay_order(body: PayIn, user: Identity, once: Once, order_id: UUID) -> Answer:
    """Pay an order; 202 when the provider finishes later."""
    order, finished = paying.pay_order(
        db.session,
        desk(),
        once,
        user_id=user.user_id,
        order_id=order_id,
        method=body.method,
        token=body.token,
    )
    return Answer(200 if finished else 202, order)


@api.get("/payments/methods", who="anyone", answers={200: MethodsView})
def list_methods() -> Any:
    """List the ways to pay."""
    return {"items": paying.list_methods(desk())}


@api.post(
    "/payments/webhooks/<name:method>",
    who="anyone",
    raw_body=WebhookIn,
    answers={204: None},
    errors=(InvalidSignature,),
    headers=("X-Signature",),
)
def take_webhook(raw: bytes, method: str) -> Answer:
    """Take what a payment provider tells of a payment, signed by it."""
    signature = request.headers.get("X-Signature", "")
    webhooks.take_webhook(db.session, desk(), method=method, body=raw, signature=signature)
    return Answer(204)
