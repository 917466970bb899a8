"""The Celery worker: `celery -A notification_service.celery_app worker`."""

from notification_service import create_app
from notification_service.celery_worker import prepare_worker
from notification_service.task_queue import make_celery
from notification_service.tasks import register_tasks

flask_app = create_app()
settings = flask_app.config["SETTINGS"]
app = prepare_worker(make_celery(settings), settings)
register_tasks(app, flask_app)
