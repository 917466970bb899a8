"""The service's own commands: `flask reconcile`, `flask settle-refund`."""

import sys
from collections.abc import Sequence
from uuid import UUID

import click
from flask import Flask

from chassis.context import bind_context
from chassis.db import database_needed
from chassis.errors import DependencyAway
from order_service.errors import RefundExceedsPayment, RefundNotRefused
from order_service.models import db
from order_service.services.desk import Desk
from order_service.services.reconciling import SETTLE_SECONDS, Drift, reconcile
from order_service.services.refunds import settle_refused_refund
from order_service.services.repairing import repair


def register_commands(app: Flask) -> None:
    """Add the commands to the app."""
    _register_reconcile(app)
    _register_settle_refund(app)


def _register_reconcile(app: Flask) -> None:
    @app.cli.command("reconcile")
    @click.option(
        "--settle",
        default=SETTLE_SECONDS,
        show_default=True,
        type=click.FloatRange(0),
        help="Seconds before a difference is looked at again.",
    )
    @click.option("--repair", "mends", is_flag=True, help="Do what is safe, say what is to be done by hand.")
    def reconcile_books(settle: float, mends: bool) -> None:
        """Compare stock, orders, payments and notifications.

        Exit status 1 on drift (with --repair on what is left), 2 when it could not be told.
        """
        try:
            with database_needed(), bind_context(request_id=None, traceparent=None):
                found = reconcile(db.session, app.extensions["desk"], settle)
                if mends and found:
                    _repair(app.extensions["desk"], found)
                    found = reconcile(db.session, app.extensions["desk"], settle)
        except DependencyAway as error:
            click.echo(f"the {error.dependency} is away", err=True)
            sys.exit(2)
        for drift in found:
            click.echo(drift)
        click.echo(f"drift {len(found)}")
        sys.exit(1 if found else 0)


def _register_settle_refund(app: Flask) -> None:
    @app.cli.command("settle-refund", short_help="Note that a refused refund went back by another way.")
    @click.argument("refund_id", type=click.UUID)
    def settle_refund(refund_id: UUID) -> None:
        """Note that the money of a refused refund went back by another way.

        A bank transfer, say, or the provider's own page. REFUND_ID is what `flask reconcile` names.
        Exit status 1 without such a refund or if less is left of the payment, 2 while the database is away.
        """
        try:
            with database_needed(), bind_context(request_id=None, traceparent=None):
                payment = settle_refused_refund(db.session, refund_id)
        except DependencyAway as error:
            click.echo(f"the {error.dependency} is away", err=True)
            sys.exit(2)
        except RefundNotRefused:
            click.echo(f"there is no refused refund {refund_id}", err=True)
            sys.exit(1)
        except RefundExceedsPayment as error:
            left = error.members["left"]
            click.echo(f"only {left} of the payment is neither back nor on its way", err=True)
            sys.exit(1)
        click.echo(f"payment {payment.id}: {payment.refunded_amount:.2f} of {payment.amount:.2f} is back")


def _repair(desk: Desk, found: Sequence[Drift]) -> None:
    done = False
    try:
        for drift, steps in repair(db.session, desk, found):
            done = True
            click.echo(drift)
            for step in steps:
                click.echo(f"  {step}")
    except DependencyAway:
        if done:
            click.echo("broken off; what is said above was done, run it again for the rest", err=True)
        raise
    click.echo("after the repair:")
