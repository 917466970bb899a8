"""Find the lines of a product."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Bring the schema forward."""
    op.create_index(op.f("ix_order_items_product_id"), "order_items", ["product_id"], unique=False)


def downgrade() -> None:
    """Take the schema back."""
    op.drop_index(op.f("ix_order_items_product_id"), table_name="order_items")
