"""The notification service, for gunicorn and `flask`."""

from notification_service import create_app

app = create_app()
