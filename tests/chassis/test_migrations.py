"""What migrations do on tables that are in use."""

import threading

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import create_engine, text

from chassis.migrations import execute_when_free
from tests.servers import PostgresServer


def test_an_index_is_dropped_without_keeping_others_from_its_table(postgres_server: PostgresServer) -> None:
    engine = create_engine(postgres_server.make_database("dropping").url, isolation_level="AUTOCOMMIT")
    with engine.connect() as dropper, engine.connect() as reader, engine.connect() as backup:
        for statement in ("CREATE TABLE busy (id int)", "CREATE INDEX ix_busy ON busy (id)"):
            dropper.execute(text(statement))
        backup.execute(text("BEGIN"))
        backup.execute(text("SELECT * FROM busy"))

        def drop() -> None:
            with Operations.context(MigrationContext.configure(dropper)):
                execute_when_free("DROP INDEX ix_busy")

        dropping = threading.Thread(target=drop)
        dropping.start()
        reader.execute(text("SET lock_timeout = '1s'"))
        for _ in range(2000):
            # Whoever waits behind the drop is let go before a second is over.
            reader.execute(text("SELECT * FROM busy"))
        assert dropping.is_alive()
        backup.execute(text("COMMIT"))
        dropping.join(20)
        assert reader.execute(text("SELECT count(*) FROM pg_indexes WHERE tablename = 'busy'")).scalar() == 0
        assert dropper.execute(text("SHOW lock_timeout")).scalar() == "0"
    engine.dispose()
