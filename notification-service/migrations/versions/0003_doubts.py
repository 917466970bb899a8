"""Count the attempts of which nobody knows whether the message has arrived."""

from alembic import op

from chassis.migrations import execute_when_free

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Bring the schema forward; a constant default is kept in the catalogue, so no row is written."""
    with op.get_context().autocommit_block():
        execute_when_free(
            "ALTER TABLE notifications ADD COLUMN IF NOT EXISTS doubts smallint DEFAULT 0 NOT NULL"
        )


def downgrade() -> None:
    """Take the schema back."""
    op.drop_column("notifications", "doubts")
