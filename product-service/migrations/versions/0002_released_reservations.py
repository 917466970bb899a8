"""Find reservations that were released long ago."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

NAME = "ix_reservations_released"


def upgrade() -> None:
    """Bring the schema forward."""
    released = sa.text("status = 'released'")
    op.create_index(NAME, "reservations", ["updated_at"], postgresql_where=released)


def downgrade() -> None:
    """Take the schema back."""
    op.drop_index(NAME, table_name="reservations")
