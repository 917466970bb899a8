"""The user service, for gunicorn and `flask`."""

from user_service import create_app

app = create_app()
