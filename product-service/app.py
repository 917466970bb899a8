"""The product service, for gunicorn and `flask`."""

from product_service import create_app

app = create_app()
