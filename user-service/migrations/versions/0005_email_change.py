"""The way to another e-mail address."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

NAME = "ck_mail_tokens_purpose_is_known"


def upgrade() -> None:
    """Add the address to move to, and the purpose of its token."""
    op.add_column("users", sa.Column("pending_email", sa.String(length=254), nullable=True))
    op.drop_constraint(op.f(NAME), "mail_tokens")
    known = "purpose IN ('verification', 'recovery', 'email_change')"
    op.create_check_constraint(op.f(NAME), "mail_tokens", known)


def downgrade() -> None:
    """Undo it."""
    op.execute("DELETE FROM mail_tokens WHERE purpose = 'email_change'")
    op.drop_constraint(op.f(NAME), "mail_tokens")
    op.create_check_constraint(op.f(NAME), "mail_tokens", "purpose IN ('verification', 'recovery')")
    op.drop_column("users", "pending_email")
