"""Index what administrators filter the history by: the event's type and the channel, newest first."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Bring the schema forward."""
    op.create_index("ix_notifications_event_type", "notifications", ["event_type", "id"], unique=False)
    op.create_index("ix_notifications_channel", "notifications", ["channel", "id"], unique=False)


def downgrade() -> None:
    """Take the schema back."""
    op.drop_index("ix_notifications_channel", table_name="notifications")
    op.drop_index("ix_notifications_event_type", table_name="notifications")
