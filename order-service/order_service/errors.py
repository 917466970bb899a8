"""What the order service refuses.

DomainError
├── CartEmpty, CartFull, CartAlreadyOrdered(order_id)
├── InsufficientStock(items)      the product service can't reserve all lines
├── PriceChanged(total_amount)    the sum is not the one that the buyer expects
├── OrderNotPayable               not pending, or its time is over
├── PaymentInProgress             another payment of the order is not settled yet
├── PaymentDeclined               the provider said no; nothing was charged
├── OrderNotCancellable, OrderNotShippable, OrderNotCompletable, OrderNotRefundable
├── RefundExceedsPayment(left)    more than what is left of the payment
├── RefundRefused                 the provider does not give the money back
└── InvalidSignature              a webhook that the provider did not sign just now
ReservationReleased               (no answer of ours) the product service gave this order up before
RefundNotRefused                  (no answer of ours) there is no such refund to settle by hand
IllegalMove                       (a bug) a payment or refund was moved as it can't be
"""

from typing import ClassVar

from chassis.errors import DomainError, ErrorTable, lines_schema
from chassis.money import OUTPUT_SCHEMA


class CartEmpty(DomainError):
    detail = "The cart is empty."


class CartFull(DomainError):
    detail = "A cart holds at most 100 products."


class CartAlreadyOrdered(DomainError):
    detail = "This cart has been ordered already."
    member_schemas: ClassVar = {"order_id": {"type": "string", "format": "uuid"}}


class InsufficientStock(DomainError):
    detail = "There is too little stock."
    member_schemas: ClassVar = {
        "items": lines_schema("What is short.", "product_id", "requested", "available")
    }


class PriceChanged(DomainError):
    detail = "The sum differs from the expected one."
    member_schemas: ClassVar = {"total_amount": OUTPUT_SCHEMA}


class OrderNotPayable(DomainError):
    detail = "The order can't be paid any more."


class PaymentInProgress(DomainError):
    detail = "A payment of this order is under way."
    retry_after = 2


class PaymentDeclined(DomainError):
    detail = "The payment was declined; nothing was charged."


class OrderNotCancellable(DomainError):
    detail = "The order can't be cancelled any more."


class OrderNotShippable(DomainError):
    detail = "Only a paid order can be shipped."


class OrderNotCompletable(DomainError):
    detail = "Only a shipped order can be completed."


class OrderNotRefundable(DomainError):
    detail = "Only a paid, shipped or completed order can be refunded."


class RefundExceedsPayment(DomainError):
    detail = "That is more than what is left of the payment."
    member_schemas: ClassVar = {"left": OUTPUT_SCHEMA}


class RefundRefused(DomainError):
    detail = "The payment provider refused the refund."


class InvalidSignature(DomainError):
    detail = "The signature is missing, wrong or too old."


class ReservationReleased(Exception):
    """The product service holds nothing for this order, and never will."""


class RefundNotRefused(Exception):
    """There is no refused refund with this id."""


class IllegalMove(Exception):
    """A payment or refund was moved as it can't be."""


ERROR_TABLE: ErrorTable = {
    CartEmpty: (409, "cart_empty"),
    CartFull: (409, "cart_full"),
    CartAlreadyOrdered: (409, "cart_already_ordered"),
    InsufficientStock: (409, "insufficient_stock"),
    PriceChanged: (409, "price_changed"),
    OrderNotPayable: (409, "order_not_payable"),
    PaymentInProgress: (409, "payment_in_progress"),
    PaymentDeclined: (402, "payment_declined"),
    OrderNotCancellable: (409, "order_not_cancellable"),
    OrderNotShippable: (409, "order_not_shippable"),
    OrderNotCompletable: (409, "order_not_completable"),
    OrderNotRefundable: (409, "order_not_refundable"),
    RefundExceedsPayment: (409, "refund_exceeds_payment"),
    RefundRefused: (409, "refund_refused"),
    InvalidSignature: (400, "invalid_signature"),
}
