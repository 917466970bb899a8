"""The order service: carts, orders, payments, refunds."""

from functools import partial

from flask import Flask
from pydantic import SecretStr

from chassis.idempotency import purge_keys
from chassis.service import create_service
from chassis.worker import Job, WorkerPlan
from order_service import routes
from order_service.clients import NotificationService, ProductService, UserService
from order_service.commands import register_commands
from order_service.config import Settings
from order_service.errors import ERROR_TABLE
from order_service.models import db
from order_service.payments.base import Provider
from order_service.payments.http import HttpProvider
from order_service.payments.registry import Providers
from order_service.payments.sandbox import Sandbox
from order_service.services.abandoning import (
    purge_abandoned,
    release_reservations,
    sweep_intents,
)
from order_service.services.desk import Desk
from order_service.services.expiry import expire_orders
from order_service.services.reconciling import DriftWatch, last_drift
from order_service.services.refunds import finish_refunds
from order_service.services.settling import settle_payments
from order_service.services.webhooks import purge_webhooks


def create_app(settings: Settings | None = None) -> Flask:
    """Build the order service."""
    settings = settings or Settings()  # type: ignore[call-arg]
    app = create_service(settings, db, apis=routes.APIS, error_table=ERROR_TABLE, import_name=__name__)
    desk = make_desk(settings)
    app.extensions["desk"] = desk
    app.extensions["worker"] = WorkerPlan(jobs=make_jobs(desk))
    app.extensions["gauges"]["reconcile_drift"] = (
        None,
        "Differences that the last reconciliation found.",
        lambda: last_drift(db.session),
    )
    register_commands(app)
    return app


def make_desk(settings: Settings) -> Desk:
    """Wire the collaborators of the use-cases."""
    providers = make_providers(settings)
    return Desk(
        products=ProductService(settings.product_service_url, settings.order_product_key.get_secret_value()),
        users=UserService(settings.user_service_url, settings.order_user_key.get_secret_value()),
        notifications=NotificationService(
            settings.notification_service_url, settings.order_notification_key.get_secret_value()
        ),
        providers=Providers(providers, offer_test_methods=settings.offers_test_methods),
        currency=settings.currency,
        payment_timeout=settings.payment_timeout,
    )


def make_providers(settings: Settings) -> list[Provider]:
    """List every payment provider that any payment may have been begun with."""
    sandbox = Sandbox(lambda: db.engine, settings.payment_sandbox_webhook_secret.get_secret_value())
    http = HttpProvider(
        settings.payment_http_url,
        key=_reveal(settings.payment_http_key),
        webhook_secret=_reveal(settings.payment_http_webhook_secret),
    )
    return [sandbox, http]


def _reveal(secret: SecretStr | None) -> str:
    return "" if secret is None else secret.get_secret_value()


def make_jobs(desk: Desk) -> list[Job]:
    """List what the worker does from time to time."""
    return [
        Job("sweep intents", 2, sweep_intents),
        Job("release reservations", 1, partial(release_reservations, desk=desk)),
        Job("expire orders", 1, expire_orders),
        Job("settle payments", 1, partial(settle_payments, desk=desk)),
        Job("finish refunds", 1, partial(finish_refunds, desk=desk)),
        Job("reconcile", 60, DriftWatch(desk)),
        Job("purge idempotency keys", 10, purge_keys),
        Job("purge webhooks", 60, purge_webhooks),
        Job("purge abandoned intents", 600, purge_abandoned),
    ]
