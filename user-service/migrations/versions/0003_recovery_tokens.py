"""Mail tokens that recover an account."""

from alembic import op

revision = "0003"
down_revision = "0002"

PURPOSES = "ck_mail_tokens_purpose_is_known"


def upgrade() -> None:
    """Allow the purpose."""
    op.drop_constraint(op.f(PURPOSES), "mail_tokens")
    op.create_check_constraint(op.f(PURPOSES), "mail_tokens", "purpose IN ('verification', 'recovery')")


def downgrade() -> None:
    """Undo it."""
    op.execute("DELETE FROM mail_tokens WHERE purpose <> 'verification'")
    op.drop_constraint(op.f(PURPOSES), "mail_tokens")
    op.create_check_constraint(op.f(PURPOSES), "mail_tokens", "purpose IN ('verification')")
