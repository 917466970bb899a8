"""List orders without walking over hidden ones; find a product's lines in the order of their orders."""

from alembic import op

from chassis.migrations import execute_when_free

revision = "0004"
down_revision = "0003"

LISTED = "WHERE status NOT IN ('reserving', 'abandoned')"
ORDERS = {
    "ix_orders_created_at": "orders (created_at, id)",
    "ix_orders_user_id_created_at": "orders (user_id, created_at, id)",
}
LINES = "ix_order_items_product_id"


def upgrade() -> None:
    """Bring the schema forward."""
    for name, columns in ORDERS.items():
        _replace(name, f"{columns} {LISTED}")
    _replace(LINES, "order_items (product_id, order_id) INCLUDE (quantity)")


def downgrade() -> None:
    """Take the schema back."""
    _replace(LINES, "order_items (product_id)")
    for name, columns in ORDERS.items():
        _replace(name, columns)


def _replace(name: str, definition: str) -> None:
    """Build an index anew under its name; once more after an interruption does no harm.

    Not CONCURRENTLY, which waits for every older snapshot: also for that of another replica that waits for
    this one's advisory lock, until the server ends one of them. Writes wait for the build, about a second a
    million rows, and those that can't are 503.
    """
    with op.get_context().autocommit_block():
        op.execute(f"CREATE INDEX IF NOT EXISTS {name}_new ON {definition}")
        execute_when_free(f"DROP INDEX IF EXISTS {name}")
        op.execute(f"ALTER INDEX {name}_new RENAME TO {name}")
