"""Users, the keys that sign their tokens, and the tokens that mails carry."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    String,
    Text,
    func,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.orm import Mapped, mapped_column

from chassis.db import make_db
from user_service.names import EMAIL_LENGTH, NICKNAME_LENGTH, USERNAME_LENGTH, e164, fold

db = make_db()

IS_ADMIN = text("role = 'admin'")


class User(db.Model):  # type: ignore[name-defined]
    """A person with an account."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("role IN ('customer', 'admin')", name="role_is_known"),
        CheckConstraint("locale IN ('zh-CN', 'en')", name="locale_is_known"),
        Index("ix_users_admins", "id", postgresql_where=IS_ADMIN),
    )
    # `updated_at` comes back with the UPDATE itself.
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    username: Mapped[str] = mapped_column(String(USERNAME_LENGTH[1]))
    username_folded: Mapped[str] = mapped_column(Text, unique=True)
    email: Mapped[str] = mapped_column(String(EMAIL_LENGTH))
    email_folded: Mapped[str] = mapped_column(Text, unique=True)
    email_verified: Mapped[bool] = mapped_column(server_default=text("false"), default=False)
    # The address to move to, until the token mailed there comes back.
    pending_email: Mapped[str | None] = mapped_column(String(EMAIL_LENGTH))
    password_hash: Mapped[str] = mapped_column(Text)
    phone: Mapped[str | None] = mapped_column(String(16))
    nickname: Mapped[str | None] = mapped_column(String(NICKNAME_LENGTH))
    locale: Mapped[str] = mapped_column(String(8), server_default="zh-CN")
    role: Mapped[str] = mapped_column(String(16), server_default="customer")
    active: Mapped[bool] = mapped_column(server_default=true(), default=True)
    created_at: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True), server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(
        TIMESTAMP(timezone=True), server_default=func.now(), onupdate=func.now()
    )

    @property
    def phone_e164(self) -> str | None:
        """The phone number the international way."""
        return e164(self.phone)

    def rename(self, username: str) -> None:
        """Take another username; the unique index tells whether it is free."""
        self.username, self.username_folded = username, fold(username)

    def move_to(self, email: str) -> None:
        """Take another e-mail address, which is yet to be verified."""
        self.email, self.email_folded, self.email_verified = email, fold(email), False

    def confirm_move(self, email: str) -> bool:
        """Move to the address that mail arrived at; False when that is no longer wanted."""
        if self.pending_email != email:
            return False
        self.move_to(email)
        self.email_verified, self.pending_email = True, None
        return True

    def verify_email(self, email: str) -> bool:
        """Note that mail to `email` arrives; False when the address has changed meanwhile."""
        if self.email_folded != fold(email):
            return False
        self.email_verified = True
        return True


class Address(db.Model):  # type: ignore[name-defined]
    """Where a user has things sent."""

    __tablename__ = "addresses"
    __table_args__ = (
        Index("uq_addresses_default", "user_id", unique=True, postgresql_where=text("is_default")),
    )
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id), index=True)
    recipient: Mapped[str] = mapped_column(Text)
    phone: Mapped[str] = mapped_column(Text)
    province: Mapped[str] = mapped_column(Text)
    city: Mapped[str] = mapped_column(Text)
    district: Mapped[str] = mapped_column(Text)
    street: Mapped[str] = mapped_column(Text)
    postal_code: Mapped[str | None] = mapped_column(Text)
    is_default: Mapped[bool] = mapped_column(server_default=text("false"), default=False)
    created_at: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True), server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(
        TIMESTAMP(timezone=True), server_default=func.now(), onupdate=func.now()
    )


class SigningKey(db.Model):  # type: ignore[name-defined]
    """An Ed25519 key of access tokens; the private half is encrypted."""

    __tablename__ = "signing_keys"

    kid: Mapped[str] = mapped_column(String(64), primary_key=True)
    public_key: Mapped[bytes] = mapped_column(LargeBinary)
    private_key: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(
        TIMESTAMP(timezone=True), server_default=func.clock_timestamp()
    )
    # Published at once, it signs only when every service has had the time to see it.
    signs_from: Mapped[datetime] = mapped_column(
        TIMESTAMP(timezone=True), server_default=func.clock_timestamp()
    )


class MailToken(db.Model):  # type: ignore[name-defined]
    """A single-use token that a mail carries; only its hash is kept, and the row goes when it is used."""

    __tablename__ = "mail_tokens"
    __table_args__ = (
        CheckConstraint("purpose IN ('verification', 'recovery', 'email_change')", name="purpose_is_known"),
    )

    token_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id), index=True)
    purpose: Mapped[str] = mapped_column(String(16))
    email: Mapped[str] = mapped_column(String(EMAIL_LENGTH))
    expires_at: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True), index=True)
