"""The service's own commands: `flask reconcile`."""

import sys

import click
from flask import Flask

from chassis.context import bind_context
from chassis.errors import DependencyAway
from order_service.models import db
from order_service.services.reconciling import SETTLE_SECONDS, reconcile


def register_commands(app: Flask) -> None:
    """Add the commands to the app."""

    @app.cli.command("reconcile")
    @click.option(
        "--settle",
        default=SETTLE_SECONDS,
        show_default=True,
        type=click.FloatRange(0),
        help="Seconds before a difference is looked at again.",
    )
    def reconcile_books(settle: float) -> None:
        """Compare stock, orders and payments: exit status 1 on drift, 2 when it could not be told."""
        try:
            with bind_context(request_id=None, traceparent=None):
                found = reconcile(db.session, app.extensions["desk"], settle)
        except DependencyAway as error:
            click.echo(f"the {error.dependency} is away", err=True)
            sys.exit(2)
        for drift in found:
            click.echo(drift)
        click.echo(f"drift {len(found)}")
        sys.exit(1 if found else 0)
