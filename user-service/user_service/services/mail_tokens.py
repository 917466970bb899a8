"""Single-use tokens that mails carry."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from chassis.db import transaction
from chassis.errors import NotFound
from user_service.errors import EmailVerified, InvalidMailToken
from user_service.models import MailToken, User
from user_service.services.accounts import get_user, lock_user

VALID = {"verification": timedelta(days=3), "recovery": timedelta(minutes=30)}


@dataclass(frozen=True)
class IssuedToken:
    """A token as its mail shall carry it; it is known nowhere else."""

    token: str
    email: str
    expires_at: datetime


def issue_token(session: Session, user_id: int, purpose: str) -> IssuedToken:
    """Make a fresh token for a mail to the user's address.

    Raises `EmailVerified` when it needs none, `NotFound` for who could do nothing with it.
    """
    token = secrets.token_urlsafe(32)
    with transaction(session) as here:
        user = get_user(here, user_id)
        if purpose == "verification" and user.email_verified:
            raise EmailVerified
        if purpose == "recovery" and not user.active:
            raise NotFound
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
        spend(here, token, "verification")


def is_good(session: Session, token: str, purpose: str) -> bool:
    """Tell whether a token could be spent now."""
    with transaction(session) as here:
        return here.scalar(select(MailToken.user_id).where(*_good(token, purpose))) is not None


def spend(session: Session, token: str, purpose: str) -> User:
    """Use a token up and return its user, locked, whose address is proven; raises `InvalidMailToken`."""
    used = session.execute(
        delete(MailToken).where(*_good(token, purpose)).returning(MailToken.user_id, MailToken.email)
    ).one_or_none()
    if used is None:
        raise InvalidMailToken
    user = lock_user(session, used.user_id)
    if not user.verify_email(used.email):
        raise InvalidMailToken
    return user


def forget_tokens(session: Session, user_id: int, purpose: str) -> None:
    """Make the user's tokens of mails sent so far worthless."""
    theirs = (MailToken.user_id == user_id) & (MailToken.purpose == purpose)
    session.execute(delete(MailToken).where(theirs))


def purge_tokens(session: Session) -> None:
    """Delete the tokens that have expired."""
    with transaction(session) as here:
        here.execute(delete(MailToken).where(MailToken.expires_at < func.now()))


def _good(token: str, purpose: str) -> list[ColumnElement[bool]]:
    right = [MailToken.token_hash == _hash(token), MailToken.purpose == purpose]
    return [*right, MailToken.expires_at > func.now()]


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
