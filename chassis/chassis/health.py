"""Health and the gauges that are read from the database: outbox, dead letters, worker."""

import time
from collections.abc import Callable
from typing import Any

import redis
import sqlalchemy.exc
from flask import Flask
from sqlalchemy import func, select, text

from chassis.db import Database, is_database_away
from chassis.metrics import Gauges
from chassis.outbox import outbox_stats
from chassis.worker import WorkerStatus

WORKER_FRESH_SECONDS = 30
STATS_SECONDS = 1.0


def check_health(
    app: Flask, db: Database, client: redis.Redis, service: str, version: str
) -> tuple[int, dict[str, Any]]:
    """Return the status code and document: 503 only when the service's own database is away."""
    checks = {"database": "ok"}
    try:
        checks |= _worker_checks(db)
    except sqlalchemy.exc.SQLAlchemyError as error:
        db.session.rollback()
        checks["database"] = "away" if is_database_away(error) else "not migrated"
    try:
        client.ping()
        checks["redis"] = "ok"
    except redis.RedisError:
        checks["redis"] = "away"
    serves = checks["database"] == "ok"
    degraded = any(value != "ok" for value in checks.values())
    body = {
        "status": "degraded" if degraded else "ok",
        "service": service,
        "version": version,
        "checks": checks,
    }
    return (200 if serves else 503), body


def _worker_checks(db: Database) -> dict[str, str]:
    """Read what the worker last wrote of itself and of the broker."""
    fresh = WorkerStatus.updated_at > func.now() - text(f"interval '{WORKER_FRESH_SECONDS} seconds'")
    rows = {
        name: (value, bool(is_fresh))
        for name, value, is_fresh in db.session.execute(
            select(WorkerStatus.name, WorkerStatus.value, fresh).where(
                WorkerStatus.name.in_(("heartbeat", "broker"))
            )
        )
    }
    alive = rows.get("heartbeat", ("", False))[1]
    broker = rows.get("broker", ("away", False))[0]
    return {"worker": "ok" if alive else "away", "rabbitmq": "ok" if alive and broker == "ok" else "away"}


def read_gauges(app: Flask, db: Database) -> Gauges:
    """Return the gauges of contract section 6."""
    stats = _Remembered(app, lambda: outbox_stats(db.session))
    return {
        "db_connections": ("state", "Connections of the pool.", lambda: _pool(app, db)),
        "outbox_unsent": (None, "Events not yet confirmed by the broker.", lambda: stats.read("unsent")),
        "outbox_lag_seconds": (None, "Age of the oldest unsent event.", lambda: stats.read("lag_seconds")),
        "outbox_stuck": (None, "Events that fail for more than 60 s.", lambda: stats.read("stuck")),
        "dead_letters": ("queue", "Messages in a dead-letter queue.", lambda: _dead_letters(app, db)),
    }


class _Remembered:
    """One reading that serves the gauges of one scrape."""

    def __init__(self, app: Flask, read: Callable[[], Any]) -> None:
        self.app, self._read = app, read
        self.value: Any = None
        self.read_at = float("-inf")

    def read(self, name: str) -> dict[str, float]:
        if time.monotonic() - self.read_at > STATS_SECONDS:
            try:
                self.value = self._read()
            except sqlalchemy.exc.SQLAlchemyError:
                return {"": float(getattr(self.value, name, 0))}
            self.read_at = time.monotonic()
        return {"": float(getattr(self.value, name))}


def _pool(app: Flask, db: Database) -> dict[str, float]:
    pool: Any = db.engine.pool
    return {"in_use": pool.checkedout(), "idle": pool.checkedin()}


def _dead_letters(app: Flask, db: Database) -> dict[str, float]:
    try:
        rows = db.session.execute(
            select(WorkerStatus.name, WorkerStatus.value).where(WorkerStatus.name.startswith("dead_letters:"))
        ).all()
    except sqlalchemy.exc.SQLAlchemyError:
        rows = []
    plan = app.extensions.get("worker")
    # A service without queues still has the metric.
    counts = dict.fromkeys((plan.queues if plan else []) or [""], 0.0)
    return counts | {name.removeprefix("dead_letters:"): float(value) for name, value in rows}
