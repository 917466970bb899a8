"""The notification service: tells people what happened, once, by mail, text and push message."""

from functools import cached_property
from uuid import UUID

from flask import Flask

from chassis.auth import Peer
from chassis.idempotency import purge_keys
from chassis.service import create_service
from chassis.worker import Job, WorkerPlan
from notification_service import routes
from notification_service.channels.email import SmtpMailer
from notification_service.channels.push import WebPusher
from notification_service.channels.sms import make_sms_provider
from notification_service.clients import UserService
from notification_service.commands import register_commands
from notification_service.config import Settings
from notification_service.consumers import make_consumers
from notification_service.errors import ERROR_TABLE
from notification_service.models import db
from notification_service.rendering import Texts
from notification_service.services import PushKeys, Sweep, Tools
from notification_service.services.dispatching import Tasks


def create_app(settings: Settings | None = None) -> Flask:
    """Build the notification service."""
    settings = settings or Settings()  # type: ignore[call-arg]
    app = create_service(
        settings,
        db,
        apis=[routes.api, routes.internal],
        error_table=ERROR_TABLE,
        peers={
            "order-service": Peer.of(
                settings.order_notification_key, "notifications.read", "notifications.repair"
            )
        },
        import_name=__name__,
    )
    tools = make_tools(settings)
    app.extensions["tools"] = tools
    sweep = Sweep(
        LazyTasks(settings),
        dispatch_seconds=settings.dispatch_seconds,
        claim_seconds=settings.claim_seconds,
    )
    app.extensions["worker"] = WorkerPlan(
        consumers=make_consumers(tools.texts, tools.users),
        jobs=[Job("sweep", settings.sweep_seconds, sweep), Job("purge idempotency keys", 3600, purge_keys)],
        # It tells no other service anything.
        relay=False,
        other_queues=["notification.tasks"],
    )
    register_commands(app)
    return app


def make_tools(settings: Settings) -> Tools:
    """Wire what sending needs."""
    return Tools(
        texts=Texts(settings),
        mailer=SmtpMailer(settings),
        sms=make_sms_provider(settings),
        pusher=WebPusher(settings),
        push_keys=PushKeys(settings.vapid_private_key),
        users=UserService(settings),
        public_url=settings.public_url.rstrip("/"),
        claim_seconds=settings.claim_seconds,
    )


class LazyTasks:
    """The queue of tasks; Celery is loaded by its first use, as the HTTP processes have none."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def _queue(self) -> Tasks:
        from notification_service.task_queue import TaskQueue

        return TaskQueue(self._settings)

    def send(self, notification_id: UUID, request_id: str, traceparent: str) -> None:
        """Send one notification's task."""
        self._queue.send(notification_id, request_id, traceparent)

    def count(self) -> int:
        """Count the tasks that wait."""
        return self._queue.count()
