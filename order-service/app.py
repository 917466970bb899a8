"""The order service, for gunicorn and `flask`."""

from order_service import create_app

app = create_app()
