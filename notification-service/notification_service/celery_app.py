"""The Celery worker: `celery -A notification_service.celery_app worker`."""

import sys

from chassis.config import BadSetting
from notification_service import create_app
from notification_service.celery_worker import prepare_worker
from notification_service.task_queue import make_celery
from notification_service.tasks import register_tasks

try:
    flask_app = create_app()
except BadSetting as refusal:
    # Celery would show where it came from, in forty lines.
    sys.exit(f"Error: {refusal.format_message()}")
settings = flask_app.config["SETTINGS"]
app = prepare_worker(make_celery(settings), settings)
register_tasks(app, flask_app)
