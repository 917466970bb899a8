"""The database session, its one commit, and deadlines on every wait."""

import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
import sqlalchemy.exc
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from psycopg2 import errors as pg
from psycopg2 import extensions
from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase, Session

from chassis.config import ServiceSettings
from chassis.errors import DependencyAway
from chassis.logs import get_logger
from chassis.silence import Silence

log = get_logger(__name__)

NAMING = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

SERVER_SETTINGS = {
    "statement_timeout": 2000,
    "lock_timeout": 1000,
    "idle_in_transaction_session_timeout": 5000,
    "timezone": "UTC",
}


class Base(DeclarativeBase):
    """The chassis' own tables; each service's migrations make those that it uses."""

    metadata = MetaData(naming_convention=NAMING)


class BoundedConnection(extensions.connection):
    """A connection whose every wait ends: a stopped server enforces no time-out of its own."""

    silence: Silence | None = Silence(3.0)


class PatientConnection(extensions.connection):
    """A connection that waits as long as it takes: migrations, the relay's lock."""

    silence: Silence | None = None


def _wait(connection: extensions.connection) -> None:
    silence: Silence | None = getattr(connection, "silence", None)
    seconds = silence.seconds() if silence else float("inf")
    ends = time.monotonic() + seconds
    while (state := connection.poll()) != extensions.POLL_OK:
        events = select.POLLIN if state == extensions.POLL_READ else select.POLLOUT
        poller = select.poll()
        poller.register(connection.fileno(), events)
        left = max(0.0, ends - time.monotonic()) * 1000 if silence else None
        if not poller.poll(left) and silence:
            silence.begins(after=seconds)
            raise psycopg2.OperationalError("the server did not answer in time; connection closed")
    if silence:
        silence.ends()


class Database(SQLAlchemy):
    """Flask-SQLAlchemy, typed so that `db.session` goes where a `Session` is wanted: it proxies one."""

    session: Any

    def leave_session(self) -> None:
        """End the session; on a connection that was lost meanwhile there is nothing left to roll back."""
        try:
            self.session.remove()
        except sqlalchemy.exc.DBAPIError as error:
            self.session.registry.clear()
            if not is_database_away(error):
                raise
            log.warning("connection lost at the end of a session", reason=str(error).split("\n")[0])

    def _teardown_session(self, exc: BaseException | None) -> None:
        # The answer is made by then, and stands.
        self.leave_session()


def make_db() -> Database:
    """Make a service's Flask-SQLAlchemy object; its models derive from `db.Model`."""
    return Database(
        metadata=MetaData(naming_convention=NAMING),
        session_options={"expire_on_commit": False, "autoflush": False},
    )


def init_db(app: Flask, db: SQLAlchemy, settings: ServiceSettings) -> None:
    """Point `db` at the service's own database, with the budgets of the architecture."""
    extensions.set_wait_callback(_wait)
    app.config["SQLALCHEMY_DATABASE_URI"] = settings.database_url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {
        "connect_args": {
            "connection_factory": BoundedConnection,
            "options": " ".join(f"-c {name}={value}" for name, value in SERVER_SETTINGS.items()),
            "application_name": settings.service,
        },
        "pool_size": settings.db_pool_size,
        "max_overflow": 0,
        "pool_timeout": 1,
        "pool_pre_ping": True,
        "pool_recycle": 1800,
        "executemany_mode": "values_plus_batch",
    }
    db.init_app(app)


@contextmanager
def transaction(session: Any) -> Iterator[Session]:
    """Run one use-case: commit at its end, roll back when it is left by an error.

    An inner block joins the outer one, so that a consumer's inbox row and a use-case's effect are one.
    """
    here: Session = session() if callable(session) else session
    depth = here.info.get("transaction_depth", 0)
    here.info["transaction_depth"] = depth + 1
    try:
        yield here
        if depth == 0:
            here.commit()
    except BaseException:
        if depth == 0:
            here.rollback()
        raise
    finally:
        here.info["transaction_depth"] = depth


SURROUNDINGS = (
    sqlalchemy.exc.OperationalError,
    sqlalchemy.exc.InterfaceError,
    sqlalchemy.exc.TimeoutError,
    psycopg2.OperationalError,
    psycopg2.InterfaceError,
)


def is_database_away(error: BaseException) -> bool:
    """Tell a failure of the surroundings (away, overloaded, locked) from one of the statement."""
    if isinstance(error, SURROUNDINGS):
        return True
    if isinstance(error, sqlalchemy.exc.DBAPIError):
        return error.connection_invalidated or isinstance(
            error.orig, (pg.QueryCanceled, pg.LockNotAvailable, pg.DeadlockDetected, pg.SerializationFailure)
        )
    return False


@contextmanager
def database_needed() -> Iterator[None]:
    """Turn a database that is away into `DependencyAway`."""
    try:
        yield
    except Exception as error:
        if is_database_away(error):
            raise DependencyAway("database") from error
        raise
