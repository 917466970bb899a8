"""Single-use tokens that mails carry."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from chassis.db import transaction
from chassis.errors import NotFound
from chassis.events import record
from user_service import events
from user_service.errors import EmailVerified, InvalidMailToken
from user_service.models import MailToken, User
from user_service.services.accounts import conflicts_named, get_user, lock_user

RECOVERY, EMAIL_CHANGE = "recovery", "email_change"
VALID = {
    "verification": timedelta(days=3),
    RECOVERY: timedelta(minutes=30),
    EMAIL_CHANGE: timedelta(days=1),
}


@dataclass(frozen=True)
class IssuedToken:
    """A token as its mail shall carry it; it is known nowhere else."""

    token: str
    email: str
    expires_at: datetime


def issue_token(session: Session, user_id: int, purpose: str) -> IssuedToken:
    """Make a fresh token for a mail to the user's address, or to the one that the user wants.

    Raises `EmailVerified` when it needs none, `NotFound` for who could do nothing with it.
    """
    token = secrets.token_urlsafe(32)
    with transaction(session) as here:
        user = get_user(here, user_id)
        if purpose == "verification" and user.email_verified:
            raise EmailVerified
        if purpose == RECOVERY and not user.active:
            raise NotFound
        email = user.pending_email if purpose == EMAIL_CHANGE else user.email
        if email is None:
            raise NotFound
        expires_at = datetime.now(UTC) + VALID[purpose]
        here.add(
            MailToken(
                token_hash=_hash(token),
                user_id=user.id,
                purpose=purpose,
                email=email,
                expires_at=expires_at,
            )
        )
    return IssuedToken(token, email, expires_at)


def verify_email(session: Session, token: str) -> None:
    """Note that the mail with this token arrived, and move to its address if it was mailed for that.

    Raises `InvalidMailToken`, or `EmailTaken` when somebody else was faster.
    """
    with conflicts_named(), transaction(session) as here:
        user, used = spend(here, token, "verification", EMAIL_CHANGE)
        if used.purpose == EMAIL_CHANGE:
            record(here, events.user_updated(user))


def is_good(session: Session, token: str, *purposes: str) -> bool:
    """Tell whether a token could be spent now."""
    with transaction(session) as here:
        return here.scalar(select(MailToken.user_id).where(*_good(token, purposes))) is not None


def spend(session: Session, token: str, *purposes: str) -> tuple[User, MailToken]:
    """Use a token up: its address is proven. Return its user, locked, and what it was.

    Raises `InvalidMailToken`. First the user, then the token: so does everybody who locks both.
    """
    user_id = session.scalar(select(MailToken.user_id).where(*_good(token, purposes)))
    if user_id is None:
        raise InvalidMailToken
    user = lock_user(session, user_id)
    used = session.scalar(delete(MailToken).where(*_good(token, purposes)).returning(MailToken))
    if used is None:
        raise InvalidMailToken
    prove = user.confirm_move if used.purpose == EMAIL_CHANGE else user.verify_email
    if not prove(used.email):
        raise InvalidMailToken
    return user, used


def forget_tokens(session: Session, user_id: int, *purposes: str) -> None:
    """Make the user's tokens of mails sent so far worthless."""
    theirs = (MailToken.user_id == user_id) & MailToken.purpose.in_(purposes)
    session.execute(delete(MailToken).where(theirs))


def purge_tokens(session: Session) -> None:
    """Delete the tokens that have expired."""
    with transaction(session) as here:
        here.execute(delete(MailToken).where(MailToken.expires_at < func.now()))


def _good(token: str, purposes: Sequence[str]) -> list[ColumnElement[bool]]:
    right = [MailToken.token_hash == _hash(token), MailToken.purpose.in_(purposes)]
    return [*right, MailToken.expires_at > func.now()]


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
