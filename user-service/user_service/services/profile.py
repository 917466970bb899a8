"""One's own account: name, phone, language, and the way to another e-mail address."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from chassis.db import transaction
from chassis.errors import Invalid
from chassis.events import record
from user_service import events
from user_service.errors import EmailTaken
from user_service.models import User
from user_service.names import fold
from user_service.services.accounts import account_of, conflicts_named, get_user, lock_user
from user_service.services.mail_tokens import EMAIL_CHANGE, forget_tokens
from user_service.services.passwords import check_password, lock_unchanged
from user_service.services.tools import Tools


def change_profile(session: Session, tools: Tools, user_id: int, changes: dict[str, Any]) -> User:
    """Change the given ones of username, phone, nickname, locale and e-mail address.

    Another address needs the password, and counts once the token mailed to it comes back. Raises
    `UsernameTaken`, `EmailTaken`, `WrongPassword`.
    """
    changes = dict(changes)
    email, password = changes.pop("email", None), changes.pop("current_password", None)
    owner = None if email is None else _check_owner(session, tools, user_id, password)
    with conflicts_named(), transaction(session) as here:
        user = lock_unchanged(here, owner) if owner else lock_user(here, user_id)
        before = events.user_facts(user)
        for field, value in changes.items():
            if field == "username":
                user.rename(value)
            else:
                setattr(user, field, value)
        if events.user_facts(user) != before:
            record(here, events.user_updated(user))
        if email is not None:
            _ask_for_address(here, user, email)
    return user


def _check_owner(session: Session, tools: Tools, user_id: int, password: str | None) -> User:
    """Make sure that it is not somebody at a screen left alone, nor one who mails without end."""
    if password is None:
        raise Invalid("current_password", "is needed to change the e-mail address")
    user = get_user(session, user_id)
    check_password(tools, user, password)
    tools.attempts.count_mail(account_of(user))
    return user


def _ask_for_address(session: Session, user: User, email: str) -> None:
    """Begin the way to another address; naming the present one ends it."""
    forget_tokens(session, user.id, EMAIL_CHANGE)
    user.pending_email = None if email == user.email else email
    if user.pending_email is None:
        return
    others = select(User.id).where(User.email_folded == fold(email), User.id != user.id)
    if session.scalar(others) is not None:
        raise EmailTaken
    record(session, events.email_change_requested(user, email))
