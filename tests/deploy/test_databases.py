"""What the databases' set-up script makes of a real PostgreSQL."""

import os
import subprocess
from collections.abc import Iterator

import psycopg2
import pytest

from tests.servers import REPOSITORY, PostgresServer

SCRIPT = REPOSITORY / "database/init-scripts/10-roles-and-databases.sh"
SERVICES = ("user", "product", "order", "notification")


def set_up(server: PostgresServer, **changes: str) -> None:
    """Run the script with a password of its own for each role, `changes` apart."""
    settings = {
        "PATH": os.environ["PATH"],
        "PGHOST": server.host,
        "PGPORT": str(server.port),
        "PGUSER": server.user,
        "PGPASSWORD": server.password,
        "POSTGRES_PASSWORD": server.password,
        **{f"{service.upper()}_DB_PASSWORD": f"password-of-{service}" for service in SERVICES},
    }
    subprocess.run([str(SCRIPT)], env=settings | changes, check=True)


def connect(server: PostgresServer, service: str, database: str, password: str | None = None) -> None:
    psycopg2.connect(
        host=server.host,
        port=server.port,
        user=f"{service}_service",
        password=password or f"password-of-{service}",
        dbname=database,
    ).close()


@pytest.fixture
def server(postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    """Yield a server that was set up twice; take the databases and roles away again."""
    set_up(postgres_server)
    set_up(postgres_server)
    yield postgres_server
    for service in SERVICES:
        postgres_server.execute(f"DROP DATABASE {service}_db WITH (FORCE)", f"DROP ROLE {service}_service")
    postgres_server.execute("GRANT CONNECT, TEMPORARY ON DATABASE postgres, template1 TO PUBLIC")


def ask(server: PostgresServer, statement: str) -> list[tuple]:
    connection = server.database("postgres").connect()
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()
    finally:
        connection.close()


@pytest.mark.parametrize("service", SERVICES)
def test_a_role_connects_to_its_own_database_alone(server: PostgresServer, service: str) -> None:
    connect(server, service, f"{service}_db")
    others = {f"{other}_db" for other in SERVICES} - {f"{service}_db"} | {"postgres", "template1"}
    for database in others:
        with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
            connect(server, service, database)


def test_the_databases_hold_unicode_and_no_tables(server: PostgresServer) -> None:
    rows = ask(
        server,
        "SELECT datname, pg_encoding_to_char(encoding), datcollate, datctype, rolname "
        "FROM pg_database JOIN pg_roles ON pg_roles.oid = datdba WHERE datname LIKE '%\\_db' ORDER BY 1",
    )
    assert rows == [(f"{s}_db", "UTF8", "C", "C.UTF-8", f"{s}_service") for s in sorted(SERVICES)]


def test_the_roles_can_do_nothing_special_and_leave_room_for_each_other(server: PostgresServer) -> None:
    rows = ask(
        server,
        "SELECT rolconnlimit, rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls "
        "FROM pg_roles WHERE rolname LIKE '%\\_service'",
    )
    assert not any(special for _, special in rows)
    # 200 is max_connections; three are kept for the superuser.
    assert sum(limit for limit, _ in rows) <= 200 - 3


def test_a_changed_password_counts_at_the_next_start(server: PostgresServer) -> None:
    set_up(server, ORDER_DB_PASSWORD="it's-another")
    connect(server, "order", "order_db", "it's-another")
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        connect(server, "order", "order_db")


def test_a_missing_password_is_refused_before_anything_changes(server: PostgresServer) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        set_up(server, USER_DB_PASSWORD="new", ORDER_DB_PASSWORD="")
    connect(server, "user", "user_db")
