"""Changing one's password."""

from sqlalchemy.orm import Session

from chassis.auth import Identity
from chassis.db import transaction
from user_service.errors import WrongPassword
from user_service.models import User
from user_service.services.accounts import account_of, get_user, lock_user
from user_service.services.tools import Tools


def change_password(session: Session, tools: Tools, identity: Identity, *, current: str, new: str) -> None:
    """Set a new password and end the user's other sessions; raises `WrongPassword`.

    While Redis is away nothing is changed.
    """
    user = get_user(session, identity.user_id)
    check_password(tools, user, current)
    password_hash = tools.hasher.hash(new)
    with transaction(session) as here:
        user = lock_unchanged(here, user)
        user.password_hash = password_hash
        tools.sessions.end_all(user.id, but=identity.session_id)


def check_password(tools: Tools, user: User, password: str) -> None:
    """Raise `WrongPassword` unless it is the user's; a failure counts as one of signing in."""
    account = account_of(user)
    with tools.hasher.turn():
        tools.attempts.count_try(account)
        known = tools.hasher.matches(password, user.password_hash)
    if not known:
        raise WrongPassword
    tools.attempts.forgive(account)


def lock_unchanged(session: Session, user: User) -> User:
    """Lock the user whose password was checked; raises `WrongPassword` when it was changed meanwhile."""
    checked = user.password_hash
    locked = lock_user(session, user.id)
    if locked.password_hash != checked:
        raise WrongPassword
    return locked
