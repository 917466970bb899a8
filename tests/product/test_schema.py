"""The tables that the migrations make."""

import re
import subprocess

from chassis.migrations import is_current
from product_service import create_app


def test_models_and_migrations_agree(make_settings, migrated_database):
    assert is_current(create_app(make_settings(migrated_database)))


def test_no_index_holds_what_an_order_changes(shop):
    """So that selling updates a row in its page alone, however many indexes there are."""
    indexes = shop.sql(
        "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'products'::regclass"
    )
    assert len(indexes) >= 6
    changed = re.compile(r"\b(stock|stock_version|updated_at)\b")
    assert [definition for (definition,) in indexes if changed.search(definition)] == []


def test_a_dump_restores_search_and_stock(shop, migrated_database, postgres_server):
    """The search functions name what they use, so that a restore, which has no search path, finds it."""
    shop.add("保温杯 Thermos", stock=3)
    restored = postgres_server.make_database("product_restored")
    where = ["-h", migrated_database.host, "-p", str(migrated_database.port), "-U", migrated_database.user]
    env = {"PGPASSWORD": migrated_database.password, "PATH": "/usr/bin:/bin"}
    dump = subprocess.run(
        ["pg_dump", *where, migrated_database.name], env=env, check=True, capture_output=True
    )
    subprocess.run(
        ["psql", *where, "-v", "ON_ERROR_STOP=1", "-q", "-d", restored.name],
        env=env,
        check=True,
        capture_output=True,
        input=dump.stdout,
    )
    connection = restored.connect()
    with connection.cursor() as cursor:
        cursor.execute("SELECT stock FROM products WHERE words @@ search_query('温杯 thermos', '&')")
        assert cursor.fetchall() == [(3,)]
    connection.close()
