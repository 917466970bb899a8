"""The Celery task: an id comes in, a notification goes out."""

from typing import Any
from uuid import UUID

from celery import Celery
from flask import Flask

from chassis.context import bind_context
from notification_service import services
from notification_service.task_queue import TASK


def register_tasks(celery: Celery, app: Flask) -> None:
    """Make the task known to the worker."""

    @celery.task(name=TASK, bind=True)
    def send(task: Any, notification_id: str) -> None:
        """Send one notification, in the context of the request that caused it."""
        headers = task.request.headers or {}
        request_id, traceparent = headers.get("request_id"), headers.get("traceparent")
        with bind_context(request_id=request_id, traceparent=traceparent), app.app_context():
            session = app.extensions["sqlalchemy"].session
            services.send_notification(session, UUID(notification_id), app.extensions["tools"])
