"""Delivery addresses."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"

WORDS = ("recipient", "phone", "province", "city", "district", "street")


def upgrade() -> None:
    """Make the table."""
    now = {"server_default": sa.text("now()"), "nullable": False}
    op.create_table(
        "addresses",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in WORDS),
        sa.Column("postal_code", sa.Text(), nullable=True),
        sa.Column("is_default", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), **now),
        sa.Column("updated_at", postgresql.TIMESTAMP(timezone=True), **now),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_addresses_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_addresses")),
    )
    op.create_index(op.f("ix_addresses_user_id"), "addresses", ["user_id"])
    default = sa.text("is_default")
    op.create_index("uq_addresses_default", "addresses", ["user_id"], unique=True, postgresql_where=default)


def downgrade() -> None:
    """Undo it."""
    op.drop_table("addresses")
