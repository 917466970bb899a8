"""The product service: the catalogue and its stock."""

from flask import Flask

from chassis.auth import Peer
from chassis.idempotency import purge_keys
from chassis.service import create_service
from chassis.worker import Job, WorkerPlan
from product_service.config import Settings
from product_service.consumers import ORDER_EVENTS
from product_service.errors import ERROR_TABLE
from product_service.models import db
from product_service.routes import APIS
from product_service.services.purging import purge_released


def create_app(settings: Settings | None = None) -> Flask:
    """Build the product service."""
    settings = settings or Settings()  # type: ignore[call-arg]
    app = create_service(
        settings,
        db,
        apis=APIS,
        error_table=ERROR_TABLE,
        peers={
            "order-service": Peer.of(
                settings.order_product_key, "reservations.write", "products.read", "books.read"
            )
        },
        import_name=__name__,
    )
    app.extensions["worker"] = WorkerPlan(
        consumers=[ORDER_EVENTS],
        jobs=[
            Job("purge reservations", 600, purge_released),
            Job("purge idempotency keys", 3600, purge_keys),
        ],
    )
    return app
