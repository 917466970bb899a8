"""Single-use tokens that mails carry."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, func
from sqlalchemy.orm import Session

from chassis.db import transaction
from user_service.errors import EmailVerified, InvalidMailToken
from user_service.models import MailToken
from user_service.services.accounts import get_user, lock_user

VALID = {"verification": timedelta(days=3)}


@dataclass(frozen=True)
class IssuedToken:
    """A token as its mail shall carry it; it is known nowhere else."""

    token: str
    email: str
    expires_at: datetime


def issue_token(session: Session, user_id: int, purpose: str) -> IssuedToken:
    """Make a fresh token for a mail to the user's address; raises `EmailVerified` when it needs none."""
    token = secrets.token_urlsafe(32)
    with transaction(session) as here:
        user = get_user(here, user_id)
        if purpose == "verification" and user.email_verified:
            raise EmailVerified
        expires_at = datetime.now(UTC) + VALID[purpose]
        here.add(
            MailToken(
                token_hash=_hash(token),
                user_id=user.id,
                purpose=purpose,
                email=user.email,
                expires_at=expires_at,
            )
        )
    return IssuedToken(token, user.email, expires_at)


def verify_email(session: Session, token: str) -> None:
    """Note that the mail with this token arrived; raises `InvalidMailToken`."""
    with transaction(session) as here:
        used = here.execute(
            delete(MailToken)
            .where(
                MailToken.token_hash == _hash(token),
                MailToken.purpose == "verification",
                MailToken.expires_at > func.now(),
            )
            .returning(MailToken.user_id, MailToken.email)
        ).one_or_none()
        if used is None or not lock_user(here, used.user_id).verify_email(used.email):
            raise InvalidMailToken


def purge_tokens(session: Session) -> None:
    """Delete the tokens that have expired."""
    with transaction(session) as here:
        here.execute(delete(MailToken).where(MailToken.expires_at < func.now()))


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
