"""Add up a product's books, and list its reservations, from indexes."""

from alembic import op

from chassis.migrations import execute_when_free

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Bring the schema forward; once more after an interruption does no harm."""
    # Each in a transaction of its own: whoever writes waits for one build, about a second a million rows, and
    # is answered 503 when that is too long.
    # Not CONCURRENTLY, which would wait for a replica that waits for this one's advisory lock.
    with op.get_context().autocommit_block():
        op.execute(
            "CREATE INDEX IF NOT EXISTS ix_reserved_lines_books"
            " ON reserved_lines (product_id, order_id) INCLUDE (quantity)"
        )
        execute_when_free("DROP INDEX IF EXISTS ix_reserved_lines_product")
        op.execute(
            "CREATE INDEX IF NOT EXISTS ix_reservations_unsold"
            " ON reservations (order_id) INCLUDE (status) WHERE status <> 'sold'"
        )
        op.execute(
            "CREATE INDEX IF NOT EXISTS ix_stock_movements_books"
            " ON stock_movements (product_id) INCLUDE (delta, reason) WHERE order_id IS NULL"
        )


def downgrade() -> None:
    """Take the schema back."""
    op.drop_index("ix_stock_movements_books", table_name="stock_movements")
    op.drop_index("ix_reservations_unsold", table_name="reservations")
    op.create_index("ix_reserved_lines_product", "reserved_lines", ["product_id"], unique=False)
    op.drop_index("ix_reserved_lines_books", table_name="reserved_lines")
