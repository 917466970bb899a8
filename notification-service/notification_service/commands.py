"""The service's own commands: `flask rebuild people`."""

import sys

import click
from flask import Flask
from flask.cli import AppGroup

from chassis.context import bind_context
from chassis.db import database_needed
from chassis.errors import DependencyAway
from notification_service.models import db
from notification_service.services.rebuilding import rebuild_people


def register_commands(app: Flask) -> None:
    """Add the commands to the app."""
    rebuild = AppGroup("rebuild", help="Make a read model anew from events.")

    @rebuild.command("people")
    def people() -> None:
        """Make the own copy of users anew; nobody is mailed, and readers never find it empty."""
        try:
            with database_needed(), bind_context(request_id=None, traceparent=None):
                done = rebuild_people(db.engine, app.extensions["tools"].users)
        except DependencyAway as error:
            click.echo(f"the {error.dependency} is away; nothing was changed", err=True)
            sys.exit(2)
        click.echo(f"{done.events} events read  {done.written} rows written  {done.removed} removed")

    app.cli.add_command(rebuild)
