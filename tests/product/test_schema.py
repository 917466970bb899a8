"""The tables that the migrations make."""

import subprocess

from chassis.migrations import is_current
from product_service import create_app


def test_models_and_migrations_agree(make_settings, migrated_database):
    assert is_current(create_app(make_settings(migrated_database)))


def test_selling_touches_no_index(shop):
    product = shop.add(stock=1000)
    for _ in range(20):
        shop.reserve({product["id"]: 1})
    shop.sql("SELECT pg_stat_force_next_flush()")
    (row,) = shop.sql("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'products'")
    assert row.n_tup_upd == row.n_tup_hot_upd


def test_a_dump_restores_search_and_stock(shop, database, postgres_server):
    """The search functions name what they use, so that a restore, which has no search path, finds it."""
    shop.add("保温杯 Thermos", stock=3)
    restored = postgres_server.make_database("product_restored")
    where = ["-h", database.host, "-p", str(database.port), "-U", database.user]
    env = {"PGPASSWORD": database.password, "PATH": "/usr/bin:/bin"}
    dump = subprocess.run(["pg_dump", *where, database.name], env=env, check=True, capture_output=True)
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
