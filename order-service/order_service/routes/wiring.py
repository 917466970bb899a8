"""What routes hand on to the use-cases."""

from flask import current_app

from order_service.services.desk import Desk


def desk() -> Desk:
    """Return the collaborators of the running app."""
    wired: Desk = current_app.extensions["desk"]
    return wired
