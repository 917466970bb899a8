"""The service's own commands: `flask keys rotate`, `flask keys fingerprint`."""

import click
from flask import Flask
from flask.cli import AppGroup

from chassis.keyset import remember_key_set
from chassis.service import Chassis
from user_service.services.keys import Vault, read_key_set, rotate_keys


def register_commands(app: Flask, vault: Vault) -> None:
    """Add the commands to the app."""
    keys = AppGroup("keys", help="The keys that sign access tokens.")
    edge: Chassis = app.extensions["edge"]

    @keys.command("rotate")
    def rotate() -> None:
        """Make a new key: published at once, it signs 10 s later; the old one goes with its last token."""
        kid = rotate_keys(edge.session(), vault)
        # For who can't ask this service just then.
        remember_key_set(edge.redis, read_key_set(edge.session()))
        click.echo(f"{kid} is published and signs in 10 s; the key before it stays good for its last tokens")

    @keys.command("fingerprint")
    @click.option("--salt", required=True)
    def fingerprint(salt: str) -> None:
        """Print what tells one KEY_ENCRYPTION_SECRET from another, and nothing else about it."""
        click.echo(vault.fingerprint(salt))

    app.cli.add_command(keys)
