"""News of money that fits no payment: kept for somebody to look at, and never an order's payment."""

from uuid import UUID

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from chassis.logs import get_logger
from order_service.models import Payment, PaymentAnomaly
from order_service.payments.base import Charge

log = get_logger(__name__)


def fits(payment: Payment, charge: Charge) -> bool:
    """Tell whether a provider speaks of what the payment is of; where it says nothing, it does."""
    return charge.amount in (None, payment.amount) and charge.currency in (None, payment.currency)


def record_other_amount(session: Session, payment: Payment, charge: Charge, *, source: str) -> None:
    """Keep news of another amount or currency than the payment's."""
    anomaly = {
        "reason": "amount_differs",
        "payment_id": payment.id,
        "order_id": payment.order_id,
        "method": payment.method,
        "amount": payment.amount if charge.amount is None else charge.amount,
        "currency": charge.currency or payment.currency,
        "expected_amount": payment.amount,
        "expected_currency": payment.currency,
    }
    _record(session, anomaly | {"told": charge.status, "source": source})


def record_unknown_payment(
    session: Session, payment_id: UUID, charge: Charge, *, method: str, source: str
) -> None:
    """Keep news of a payment that nobody began here with that method."""
    anomaly = {
        "reason": "unknown_payment",
        "payment_id": payment_id,
        "method": method,
        "amount": charge.amount,
        "currency": charge.currency,
    }
    _record(session, anomaly | {"told": charge.status, "source": source})


def _record(session: Session, anomaly: dict[str, object]) -> None:
    statement = insert(PaymentAnomaly).values(anomaly).on_conflict_do_nothing()
    if session.scalar(statement.returning(PaymentAnomaly.id)) is not None:
        facts = {name: str(value) for name, value in anomaly.items()}
        log.error("payment anomaly", **facts)
