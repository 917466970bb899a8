"""A database that is away, silent or full is a 503 in time, and comes back without a restart."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import pytest
from flask import Flask, Response
from sqlalchemy import select, text

from chassis.db import is_database_away, transaction
from tests.chassis.sample import Settings, make_sample
from tests.servers import Database, PostgresServer, RedisServer, run_postgres

Headers = Callable[..., dict[str, str]]


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL that a test may pause and kill."""
    with run_postgres() as server:
        yield server


@pytest.fixture
def fragile_app(own_postgres: PostgresServer, redis_server: RedisServer, key_set: dict) -> Iterator[Flask]:
    database: Database = own_postgres.make_database("fragile")
    settings = Settings(
        db_host=database.host,
        db_port=database.port,
        db_name=database.name,
        db_user=database.user,
        db_password=database.password,
        redis_host=redis_server.host,
        redis_port=redis_server.port,
        redis_password=redis_server.password,
        db_pool_size=2,
    )
    app, _ = make_sample(settings, fetch_keys=lambda: key_set)
    yield app
    with app.app_context():
        app.extensions["sqlalchemy"].engine.dispose()


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop a process and all below it, as a paused container is."""
    pids = [pid, *children(pid)]
    for each in pids:
        os.kill(each, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in pids:
            os.kill(each, signal.SIGCONT)


def children(pid: int) -> list[int]:
    direct = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return direct + [below for child in direct for below in children(child)]


def postmaster(server: PostgresServer) -> int:
    assert server.child._process is not None
    return server.child._process.pid


def timed_get(app: Flask, path: str = "/api/v1/notes") -> tuple[int, float]:
    started = time.monotonic()
    return app.test_client().get(path).status_code, time.monotonic() - started


def test_a_silent_database_is_a_503_within_6_seconds_and_then_recovers(
    fragile_app: Flask, own_postgres: PostgresServer
) -> None:
    assert timed_get(fragile_app)[0] == 200
    with frozen(postmaster(own_postgres)):
        for _ in range(2):
            status, seconds = timed_get(fragile_app)
            assert status == 503
            assert seconds < 6
    assert timed_get(fragile_app)[0] == 200


def test_a_killed_database_is_a_503_within_3_seconds_and_then_recovers(
    fragile_app: Flask, own_postgres: PostgresServer
) -> None:
    assert timed_get(fragile_app)[0] == 200
    backends = children(postmaster(own_postgres))
    own_postgres.child.kill()
    # A backend outlives its postmaster for a moment, and would answer.
    for pid in backends:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    status, seconds = timed_get(fragile_app)
    assert (status, seconds < 3) == (503, True)
    assert fragile_app.test_client().get("/health").status_code == 503
    own_postgres.child.start()
    ends = time.monotonic() + 30
    while timed_get(fragile_app)[0] != 200:
        assert time.monotonic() < ends
        time.sleep(0.2)


def test_connections_lost_while_idle_cost_no_request(
    fragile_app: Flask, own_postgres: PostgresServer
) -> None:
    assert timed_get(fragile_app)[0] == 200
    own_postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'fragile'")
    assert timed_get(fragile_app)[0] == 200


def test_connections_lost_after_the_answer_was_made_cost_no_request(
    fragile_app: Flask, own_postgres: PostgresServer
) -> None:
    lose_connections_after_each_answer(fragile_app, own_postgres)
    # More requests than connections in the pool: none of them is kept.
    for _ in range(4):
        assert timed_get(fragile_app)[0] == 200


def test_a_failure_on_a_connection_that_is_lost_is_a_503(
    fragile_app: Flask, own_postgres: PostgresServer
) -> None:
    session = fragile_app.extensions["sqlalchemy"].session

    @fragile_app.get("/fail")
    def fail() -> str:
        session.execute(text("SELECT 1"))
        lose_connections(own_postgres)
        raise psycopg2.OperationalError("away")

    for _ in range(4):
        assert timed_get(fragile_app, "/fail")[0] == 503


def lose_connections(server: PostgresServer) -> None:
    server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'fragile'")
    # The backends end by themselves, a moment later.
    gone = "SELECT 1 / (count(*) = 0)::int FROM pg_stat_activity WHERE datname = 'fragile'"
    ends = time.monotonic() + 5
    while True:
        try:
            server.execute(gone)
            return
        except psycopg2.errors.DivisionByZero:
            assert time.monotonic() < ends
            time.sleep(0.01)


def lose_connections_after_each_answer(app: Flask, server: PostgresServer) -> None:
    @app.after_request
    def lose(response: Response) -> Response:
        lose_connections(server)
        return response


def test_an_exhausted_pool_is_a_503_within_3_seconds(fragile_app: Flask) -> None:
    held = threading.Event()
    ready = threading.Barrier(3)

    def hold() -> None:
        with fragile_app.app_context():
            fragile_app.extensions["sqlalchemy"].session.execute(text("SELECT 1"))
            ready.wait()
            held.wait(5)

    holders = [threading.Thread(target=hold) for _ in range(2)]
    for holder in holders:
        holder.start()
    ready.wait()
    status, seconds = timed_get(fragile_app)
    held.set()
    for holder in holders:
        holder.join()
    assert (status, seconds < 3) == (503, True)
    assert timed_get(fragile_app)[0] == 200


def test_a_slow_statement_is_ended_by_the_server(fragile_app: Flask) -> None:
    with fragile_app.app_context():
        session = fragile_app.extensions["sqlalchemy"].session
        started = time.monotonic()
        with pytest.raises(Exception) as error:
            session.execute(text("SELECT pg_sleep(10)"))
        assert is_database_away(error.value)
        assert time.monotonic() - started < 3
        session.rollback()


def test_an_inner_transaction_joins_the_outer_one(app: Flask) -> None:
    with app.app_context():
        session = app.extensions["sqlalchemy"].session
        with pytest.raises(ZeroDivisionError):
            fail_after_inner(session)
        assert texts(session) == []
        with transaction(session):
            with transaction(session):
                insert(session, "inner")
            insert(session, "outer")
        session.rollback()
        assert texts(session) == ["inner", "outer"]


def fail_after_inner(session) -> None:
    with transaction(session):
        with transaction(session):
            insert(session, "inner")
        raise ZeroDivisionError


def insert(session, note: str) -> None:
    session.execute(
        text("INSERT INTO notes (text, resource_id) VALUES (:note, gen_random_uuid())"), {"note": note}
    )


def texts(session) -> list[str]:
    return list(session.scalars(select(text("text")).select_from(text("notes")).order_by(text("id"))))


def test_health_says_what_is_away_and_serves_on(app: Flask, redis_server: RedisServer) -> None:
    answer = app.test_client().get("/health")
    assert answer.status_code == 200
    assert answer.json["checks"]["database"] == "ok"
    assert answer.json["checks"]["redis"] == "ok"
    assert answer.json["checks"]["worker"] == "away"  # The sample has none.
    assert answer.json["status"] == "degraded"
