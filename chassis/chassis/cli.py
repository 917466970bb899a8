"""Commands that every service has: `flask serve`, `flask migrate`, `flask make-migration`.

Alembic is imported by the command that needs it: it takes 10 MB, which no serving process has to hold.
"""

import os
import sys
import time

import click
from flask import Flask

from chassis.db import is_database_away
from chassis.logs import get_logger

log = get_logger(__name__)


def register_commands(app: Flask) -> None:
    """Add the commands to the app."""

    @app.cli.command("serve")
    def serve() -> None:
        """Migrate the database, then serve HTTP with gunicorn."""
        from chassis import migrations

        migrations.migrate(app)
        prepare(app)
        # In place of this process, so that gunicorn gets the signals.
        os.execv(
            sys.executable,
            [sys.executable, "-m", "gunicorn", "-c", "python:chassis.gunicorn_conf", "app:app"],
        )

    @app.cli.command("migrate")
    def migrate() -> None:
        """Bring the database to the newest revision."""
        from chassis import migrations

        migrations.migrate(app)

    @app.cli.command("make-migration")
    @click.option("-m", "--message", required=True)
    def make_migration(message: str) -> None:
        """Write a new revision from what the models say."""
        from chassis import migrations

        migrations.make_migration(app, message)


def prepare(app: Flask) -> None:
    """Make what the service says it can't serve without, waiting while the database is away."""
    while True:
        try:
            with app.app_context():
                app.extensions.get("prepare", lambda: None)()
            return
        except Exception as error:
            if not is_database_away(error):
                raise
            log.info("waiting for the database", reason=str(error).splitlines()[0])
            time.sleep(1)
