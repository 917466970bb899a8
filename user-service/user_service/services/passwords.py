"""Passwords: change one's own, or set a new one by mail when it is forgotten."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.orm import Session

from chassis.db import transaction
from chassis.errors import DependencyAway
from chassis.events import record
from chassis.logs import get_logger
from chassis.tokens import Identity
from user_service import events
from user_service.errors import InvalidMailToken, WrongPassword
from user_service.models import User
from user_service.services.accounts import account_of, find_by_name, get_user, lock_user
from user_service.services.mail_tokens import EMAIL_CHANGE, RECOVERY, forget_tokens, is_good, spend
from user_service.services.tools import Tools

RECOVERY_SECONDS = 0.15

log = get_logger(__name__)


def change_password(session: Session, tools: Tools, identity: Identity, *, current: str, new: str) -> None:
    """Set a new password and end the user's other sessions; raises `WrongPassword`.

    While Redis is away nothing is changed.
    """
    user = get_user(session, identity.user_id)
    check_password(tools, user, current)
    password_hash = tools.hasher.hash(new)
    with transaction(session) as here:
        user = lock_unchanged(here, user)
        _set_password(here, user, password_hash)
        tools.sessions.end_all(user.id, but=identity.session_id)


def replace_published_password(
    session: Session, tools: Tools, *, username: str, published: str, password: str
) -> None:
    """Give that administrator the password of the settings in place of one that everybody knows."""
    user = find_by_name(session, username)
    if user is None or user.role != "admin" or not password or password == published:
        return
    if not tools.hasher.matches(published, user.password_hash):
        return
    password_hash = tools.hasher.hash(password)
    try:
        with transaction(session) as here:
            _set_password(here, lock_unchanged(here, user), password_hash)
            tools.sessions.end_all(user.id)
    except WrongPassword:
        log.info("another replica was faster", user_id=user.id)
    except DependencyAway as error:
        log.error("an administrator keeps the published password until the next start", reason=str(error))
    else:
        log.info("the administrator's published password was replaced", user_id=user.id)


def request_recovery(session: Session, tools: Tools, email: str) -> None:
    """Have a mail sent to who forgot the password; an unknown address takes as long."""
    with at_least(RECOVERY_SECONDS):
        # Without an @ it would be looked for among the usernames.
        user = find_by_name(session, email) if "@" in email else None
        if user is None or not user.active or not tools.attempts.may_mail(account_of(user)):
            return
        with transaction(session) as here:
            record(here, events.recovery_requested(lock_user(here, user.id)))


def reset_password(session: Session, tools: Tools, *, token: str, new: str) -> None:
    """Set a new password by the token of a mail and end every session; raises `InvalidMailToken`.

    While Redis is away nothing is changed, and the token stays good.
    """
    # Hashing takes a quarter of a second, which nobody gets for a token made up.
    if not is_good(session, token, RECOVERY):
        raise InvalidMailToken
    password_hash = tools.hasher.hash(new)
    with transaction(session) as here:
        user, _ = spend(here, token, RECOVERY)
        _set_password(here, user, password_hash)
        tools.sessions.end_all(user.id)
        # Whoever tried passwords before keeps the owner out no longer.
        tools.attempts.forgive(account_of(user))


def _set_password(session: Session, user: User, password_hash: str) -> None:
    """Set it, and end what somebody who knew the old one may have begun."""
    user.password_hash, user.pending_email = password_hash, None
    forget_tokens(session, user.id, RECOVERY, EMAIL_CHANGE)


@contextmanager
def at_least(seconds: float) -> Iterator[None]:
    """Let the block take no less than that, so that its time tells nothing."""
    ends = time.monotonic() + seconds
    try:
        yield
    finally:
        time.sleep(max(0.0, ends - time.monotonic()))


def check_password(tools: Tools, user: User, password: str) -> None:
    """Raise `WrongPassword` unless it is the user's; a failure counts as one of signing in."""
    account = account_of(user)
    with tools.hasher.turn(), tools.attempts.counted(account):
        if not tools.hasher.matches(password, user.password_hash):
            raise WrongPassword
        tools.attempts.forgive(account)


def lock_unchanged(session: Session, user: User) -> User:
    """Lock the user whose password was checked; raises `WrongPassword` when it was changed meanwhile."""
    checked = user.password_hash
    locked = lock_user(session, user.id)
    if locked.password_hash != checked:
        raise WrongPassword
    return locked
