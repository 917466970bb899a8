"""The user service: who people are, and the tokens that prove it."""

from functools import partial
from typing import Any

from flask import Flask

from chassis.auth import Peer
from chassis.db import database_needed
from chassis.history import SCOPE, make_history_api
from chassis.idempotency import purge_keys
from chassis.service import Chassis, create_service
from chassis.worker import Job, WorkerPlan
from user_service import commands, docs, internal, routes
from user_service.config import PUBLISHED_PASSWORD, Settings
from user_service.errors import ERROR_TABLE
from user_service.models import db
from user_service.services.accounts import make_first_administrator
from user_service.services.attempts import Attempts
from user_service.services.hashing import Hasher
from user_service.services.keys import Signer, Vault, ensure_signing_key, read_key_set, retire_keys
from user_service.services.mail_tokens import purge_tokens
from user_service.services.passwords import replace_published_password
from user_service.services.session_store import SessionStore
from user_service.services.tools import Tools


def create_app(settings: Settings | None = None) -> Flask:
    """Build the user service."""
    settings = settings or Settings()  # type: ignore[call-arg]
    app = create_service(
        settings,
        db,
        apis=[*routes.APIS, internal.api, make_history_api()],
        error_table=ERROR_TABLE,
        peers={
            "order-service": Peer.of(settings.order_user_key, "addresses.read"),
            "notification-service": Peer.of(
                settings.notification_user_key, "users.read", "tokens.issue", SCOPE
            ),
        },
        fetch_keys=fetch_own_keys,
        pages=docs.PAGES,
        import_name=__name__,
    )
    app.register_blueprint(docs.blueprint)
    vault = Vault(settings.key_encryption_secret.get_secret_value())
    app.extensions["tools"] = make_tools(app.extensions["edge"], settings, vault)
    app.extensions["prepare"] = partial(prepare, app, settings, vault)
    app.extensions["worker"] = WorkerPlan(
        jobs=[
            Job("purge mail tokens", 3600, purge_tokens),
            Job("purge idempotency keys", 3600, purge_keys),
            Job("retire keys", 60, retire_keys),
        ]
    )
    commands.register_commands(app, vault)
    return app


def make_tools(edge: Chassis, settings: Settings, vault: Vault) -> Tools:
    """Wire what the use-cases work with."""
    attempts = Attempts(
        edge.redis,
        per_account=settings.limit_login_per_account,
        per_address={
            "login": settings.limit_login_per_address,
            "register": settings.limit_register_per_address,
            "recover": settings.limit_register_per_address,
        },
    )
    return Tools(Hasher(), attempts, Signer(vault), SessionStore(edge.redis))


def fetch_own_keys() -> dict[str, Any]:
    """Read the key set from where the other services' come from."""
    with database_needed():
        return read_key_set(db.session)


def prepare(app: Flask, settings: Settings, vault: Vault) -> None:
    """Make what the service can't be without: a signing key and an administrator."""
    ensure_signing_key(db.session, vault)
    tools: Tools = app.extensions["tools"]
    name, password = settings.admin_username, settings.admin_password.get_secret_value()
    make_first_administrator(
        db.session, tools.hasher, username=name, email=settings.admin_email, password=password
    )
    replace_published_password(
        db.session, tools, username=name, published=PUBLISHED_PASSWORD, password=password
    )
