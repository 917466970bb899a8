"""What payment providers tell by themselves."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from chassis.db import transaction
from chassis.errors import DependencyAway, NotFound
from chassis.logs import get_logger
from order_service.models import Payment, Webhook, now
from order_service.payments.base import News, Provider, Unknown
from order_service.services.anomalies import record_unknown_payment
from order_service.services.desk import Desk, lock_order
from order_service.services.settling import record_charge

KEPT = timedelta(days=30)
PURGED_AT_ONCE = 5000

log = get_logger(__name__)


def take_webhook(session: Session, desk: Desk, *, method: str, body: bytes, signature: str) -> None:
    """Take what a provider tells of a payment, once.

    Whatever is signed is taken, also what fits no payment: refusing it would only make the provider say
    it again for ever.
    """
    provider = desk.providers.find_heard(method)
    if provider is None:
        raise NotFound
    news = _read(provider, body, signature)
    with transaction(session) as here:
        order_id = _find_order(here, news.payment_id, method)
        # Before the webhook's own row, as everything about an order is.
        order = None if order_id is None else lock_order(here, order_id)
        if not _is_new(here, method, news.id):
            return
        source = f"webhook {news.id}"
        if order is None:
            record_unknown_payment(here, news.payment_id, news.charge, method=method, source=source)
        else:
            record_charge(here, order, order.get_payment(news.payment_id), news.charge, source=source)


def _read(provider: Provider, body: bytes, signature: str) -> News:
    try:
        return provider.read_webhook(body, signature=signature)
    except Unknown as error:
        raise DependencyAway("payment provider") from error


def _find_order(session: Session, payment_id: UUID, method: str) -> UUID | None:
    statement = select(Payment.order_id).where(Payment.id == payment_id, Payment.method == method)
    return session.scalar(statement)


def _is_new(session: Session, method: str, webhook_id: str) -> bool:
    """Note a webhook; one that is told twice at once waits here for the other to commit."""
    row = insert(Webhook).values(method=method, id=webhook_id).on_conflict_do_nothing()
    if session.scalar(row.returning(Webhook.id)) is None:
        log.info("webhook known already", method=method, webhook_id=webhook_id)
        return False
    return True


def purge_webhooks(session: Session) -> bool:
    """Forget webhooks of more than 30 days ago; a periodic job. Told again, they do no harm either."""
    old = (
        select(Webhook.method, Webhook.id)
        .where(Webhook.received_at < now() - KEPT)
        .limit(PURGED_AT_ONCE)
        .cte("old")
    )
    mine = (Webhook.method == old.c.method) & (Webhook.id == old.c.id)
    with transaction(session) as here:
        gone = here.scalars(delete(Webhook).where(mine).returning(Webhook.id)).all()
    return len(gone) == PURGED_AT_ONCE
