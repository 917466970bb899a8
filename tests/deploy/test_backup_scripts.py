"""The scripts that run beside the database server: one instant over four databases, and the way back."""

import os
import re
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from deploy.local.binaries import postgres_bin
from tests.servers import REPOSITORY, PostgresServer, run_postgres

SERVICES = ("user", "product", "order", "notification")
TABLES = {
    "user": "CREATE TABLE users (id int)",
    "product": "CREATE TABLE products (id int)",
    "order": "CREATE TABLE orders (id int)",
    "notification": "CREATE TABLE notifications (id int)",
}
COMMON = """
    CREATE TABLE step (n int);
    CREATE TABLE inbox (consumer text, event_id uuid, PRIMARY KEY (consumer, event_id));
    CREATE TABLE events (
        sequence bigint PRIMARY KEY, id uuid, type text, subject text, occurred_at timestamptz DEFAULT now()
    );
    CREATE TABLE outbox (sequence bigint PRIMARY KEY, subject text)
"""


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """Yield a server with the four databases, each with a table or two, of which each has its owner."""
    with run_postgres() as server:
        for service in SERVICES:
            run(server, service, f"SET ROLE {service}_service; {TABLES[service]}; {COMMON}")
        yield server


def run(server: PostgresServer, service: str, statement: str) -> list[tuple]:
    connection = server.database(f"{service}_db").connect()
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def script(
    server: PostgresServer, name: str, *arguments: str, given: bytes = b""
) -> "subprocess.CompletedProcess[bytes]":
    """Run a script as the plain suite does."""
    where = {"PGHOST": server.host, "PGPORT": str(server.port), "PGUSER": server.user}
    path = f"{postgres_bin()}:{os.environ['PATH']}"
    command = ["sh", "-c", (REPOSITORY / "deploy/setup" / name).read_text(), name, *arguments]
    environment = {"PATH": path, "PGPASSWORD": server.password, **where}
    return subprocess.run(
        command, env=environment, input=given, capture_output=True, check=False, timeout=120
    )


def back_up(server: PostgresServer, folder: Path) -> Path:
    done = script(server, "backup.sh", "mode=plain")
    assert done.returncode == 0, done.stderr
    archive = folder / "shop.tar"
    archive.write_bytes(done.stdout)
    return archive


def fact(archive: Path, name: str) -> str:
    with tarfile.open(archive) as tar:
        manifest = tar.extractfile("manifest")
        assert manifest is not None
        return dict(line.split("=", 1) for line in manifest.read().decode().splitlines())[name]


def walk(server: PostgresServer, stop: threading.Event) -> None:
    """Commit step after step, now in this database, now in that, so that each follows the one before it."""
    connections = [server.database(f"{service}_db").connect() for service in SERVICES]
    step = 0
    while not stop.is_set():
        step += 1
        connection = connections[step % 4]
        with connection, connection.cursor() as cursor:
            # Two tables in one transaction: who locked one and waited for the other would stop everybody.
            cursor.execute("SET lock_timeout = '1s'")
            cursor.execute("INSERT INTO step VALUES (%s)", (step,))
            cursor.execute("INSERT INTO inbox VALUES ('q', gen_random_uuid())")
    for connection in connections:
        connection.close()


def test_the_four_databases_are_of_one_instant_while_all_write(server: PostgresServer, tmp_path: Path):
    stop, failed = threading.Event(), []

    def walker() -> None:
        try:
            walk(server, stop)
        except psycopg2.Error as error:
            failed.append(error)

    threads = [threading.Thread(target=walker) for _ in range(6)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    try:
        archive = back_up(server, tmp_path)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failed == []
    assert int(fact(archive, "held_ms")) < 1000
    restored = script(server, "restore.sh", "restore", given=archive.read_bytes())
    assert restored.returncode == 0, restored.stderr
    # Each walker's steps go round the databases, so any gap between the instants would show as one here.
    rows = [run(server, service, "SELECT n FROM step") for service in SERVICES]
    counts: dict[int, int] = {}
    for found in rows:
        for (step,) in found:
            counts[step] = counts.get(step, 0) + 1
    assert len(counts) > 20
    # Six walkers take step n after step n - 1: never do more have taken the later one.
    assert all(counts.get(step, 0) >= counts.get(step + 1, 0) for step in range(1, max(counts)))


def test_a_writer_that_stays_is_given_way_to(server: PostgresServer, tmp_path: Path):
    connection = server.database("user_db").connect()
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO step VALUES (1)")
    threading.Timer(1.5, lambda: (connection.commit(), connection.close())).start()
    archive = back_up(server, tmp_path)
    # It is in: nobody's half is; and the other databases were free to write all the while.
    assert int(fact(archive, "held_ms")) < 1000
    assert script(server, "restore.sh", "restore", given=archive.read_bytes()).returncode == 0
    assert run(server, "user", "SELECT n FROM step") == [(1,)]


def test_the_restored_databases_belong_to_their_services(server: PostgresServer, tmp_path: Path):
    archive = back_up(server, tmp_path)
    assert script(server, "restore.sh", "restore", given=archive.read_bytes()).returncode == 0
    for service in SERVICES:
        owners = run(server, service, "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")
        assert owners == [(f"{service}_service",)]
    databases = run(server, "user", "SELECT datname, datacl::text FROM pg_database WHERE datname ~ '_'")
    assert {name for name, _ in databases} == {f"{service}_db" for service in SERVICES}
    assert all(not re.search(r"[{,]=", granted) for _, granted in databases)


def test_a_damaged_archive_changes_nothing(server: PostgresServer, tmp_path: Path):
    archive = back_up(server, tmp_path)
    run(server, "user", "INSERT INTO users VALUES (1)")
    whole = archive.read_bytes()
    with tarfile.open(archive) as tar:
        at = tar.getmember("order.dump").offset_data + 100
    damaged = script(server, "restore.sh", "restore", given=whole[:at] + b"xxxx" + whole[at + 4 :])
    assert damaged.returncode == 1
    assert b"damaged" in damaged.stderr
    assert script(server, "restore.sh", "restore", given=whole[: len(whole) // 2]).returncode != 0
    assert run(server, "user", "SELECT * FROM users") == [(1,)]


@pytest.mark.parametrize(
    ("statement", "service"),
    [
        ("INSERT INTO users VALUES (1), (2)", "user"),
        ("INSERT INTO products VALUES (1)", "product"),
        ("INSERT INTO orders VALUES (1)", "order"),
    ],
)
def test_only_an_empty_suite_is_restored_into(server: PostgresServer, statement: str, service: str):
    run(server, "user", "INSERT INTO users VALUES (0)" if service != "user" else "SELECT 1")
    assert script(server, "restore.sh", "check", "15").returncode == 0
    run(server, service, statement)
    refused = script(server, "restore.sh", "check", "15")
    assert refused.returncode == 1
    assert refused.stderr.startswith(b"The suite is not empty (")


def test_a_backup_of_a_newer_server_is_refused(server: PostgresServer):
    refused = script(server, "restore.sh", "check", "99")
    assert refused.returncode == 1
    assert refused.stderr.startswith(b"The backup was made by PostgreSQL 99, ")


def test_what_no_reader_has_noted_down_is_sent_again(server: PostgresServer, tmp_path: Path):
    ids = {n: f"00000000-0000-0000-0000-{n:012}" for n in range(1, 7)}
    types = ("order.paid", "order.paid", "order.cancelled", "order.completed", "order.paid", "order.paid")
    values = ", ".join(f"({n}, '{ids[n]}', '{kind}', 's')" for n, kind in enumerate(types, start=1))
    run(server, "order", f"INSERT INTO events VALUES {values}")
    run(server, "order", "INSERT INTO outbox VALUES (5, 's')")
    run(server, "order", "UPDATE events SET occurred_at = now() - interval '31 days' WHERE sequence = 6")
    run(server, "product", f"INSERT INTO inbox VALUES ('product-service.order.events', '{ids[1]}')")
    run(server, "notification", f"INSERT INTO inbox VALUES ('order.events', '{ids[2]}')")
    archive = back_up(server, tmp_path).read_bytes()
    reads = "product-service.order.events order.cancelled order.paid"
    sent = script(server, "restore.sh", "restore", reads, given=archive)
    assert (sent.returncode, sent.stdout) == (0, b"2\n"), sent.stderr
    assert run(server, "order", "SELECT sequence FROM outbox ORDER BY 1") == [(2,), (3,), (5,)]
    sent = script(server, "restore.sh", "restore", reads, "order.events order.paid", given=archive)
    assert (sent.returncode, sent.stdout) == (0, b"3\n"), sent.stderr
    assert run(server, "order", "SELECT sequence FROM outbox ORDER BY 1") == [(1,), (2,), (3,), (5,)]
    assert script(server, "restore.sh", "unsent").stdout == b"4\n"


def test_what_cant_be_sent_again_leaves_everything_as_it_was(server: PostgresServer, tmp_path: Path):
    run(server, "order", "DROP TABLE outbox")
    archive = back_up(server, tmp_path).read_bytes()
    run(server, "user", "INSERT INTO users VALUES (1)")
    failed = script(server, "restore.sh", "restore", "order.events order.paid", given=archive)
    assert failed.returncode != 0
    assert failed.stdout == b""
    assert run(server, "user", "SELECT * FROM users") == [(1,)]
