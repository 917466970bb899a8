"""A watch on the stock: whether any product ever has less than no pieces."""

import time

import psycopg2

from tests.faults.calls import Record

POLL_SECONDS = 0.05
PAUSE_SECONDS = 0.5


def poll_stock(dsn: str, record: Record) -> None:
    """Look for a stock below zero all the time, on a connection of its own."""
    while True:
        try:
            _poll_on_one_connection(dsn, record)
        except psycopg2.Error:
            # The database is what the blow hit; it is asked again when it is back.
            time.sleep(PAUSE_SECONDS)
        except Exception as error:  # noqa: BLE001 - a look that ended unseen would find nothing wrong
            record.poll_failures.append(f"{type(error).__name__}: {error}")
            time.sleep(PAUSE_SECONDS)


def _poll_on_one_connection(dsn: str, record: Record) -> None:
    # Each wait ends, also for an answer that was lost for good.
    keepalives = {"keepalives_idle": 2, "keepalives_interval": 2, "keepalives_count": 3}
    connection = psycopg2.connect(dsn, connect_timeout=2, tcp_user_timeout=5000, **keepalives)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            while True:
                cursor.execute("SELECT id, stock FROM products WHERE stock < 0")
                rows = cursor.fetchall()
                record.stock_polls += 1
                record.negative_stock += [f"product {row[0]}: {row[1]} pieces" for row in rows]
                time.sleep(POLL_SECONDS)
    finally:
        connection.close()
