"""When a signing key begins to sign."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column; the keys of before sign since they were made."""
    now = sa.text("clock_timestamp()")
    column = sa.Column("signs_from", postgresql.TIMESTAMP(timezone=True), server_default=now, nullable=False)
    op.add_column("signing_keys", column)
    op.execute("UPDATE signing_keys SET signs_from = created_at")


def downgrade() -> None:
    """Undo it."""
    op.drop_column("signing_keys", "signs_from")
