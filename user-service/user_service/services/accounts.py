"""Accounts: register, look up, the first administrator."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from chassis.db import transaction
from chassis.errors import NotFound
from chassis.events import record
from chassis.logs import get_logger
from user_service import events
from user_service.errors import EmailTaken, UsernameTaken
from user_service.models import User
from user_service.names import clean_email, clean_username, fold
from user_service.services.hashing import Hasher

TAKEN = {"uq_users_username_folded": UsernameTaken, "uq_users_email_folded": EmailTaken}

log = get_logger(__name__)


def register(
    session: Session,
    hasher: Hasher,
    *,
    username: str,
    email: str,
    password: str,
    phone: str | None = None,
    locale: str = "zh-CN",
    role: str = "customer",
) -> User:
    """Make an account; raises `UsernameTaken` or `EmailTaken`."""
    # Before the transaction: it takes a quarter of a second, and no connection should wait for it.
    user = User(password_hash=hasher.hash(password), phone=phone, locale=locale, role=role)
    user.rename(username)
    user.move_to(email)
    with conflicts_named(), transaction(session) as here:
        here.add(user)
        here.flush()  # The event needs the id that the database draws.
        record(here, events.user_registered(user))
    return user


@contextmanager
def conflicts_named() -> Iterator[None]:
    """Turn a broken unique constraint into the error that says what is taken."""
    try:
        yield
    except IntegrityError as error:
        diagnostics = getattr(error.orig, "diag", None)
        taken = TAKEN.get(getattr(diagnostics, "constraint_name", None) or "")
        if taken is None:
            raise
        raise taken from error


def get_user(session: Session, user_id: int) -> User:
    """Return the user, or raise `NotFound`."""
    with transaction(session) as here:
        user = here.get(User, user_id)
        if user is None:
            raise NotFound
        return user


def find_by_name(session: Session, name: str) -> User | None:
    """Return who has this username or e-mail address, in any case."""
    # No username has an @.
    column = User.email_folded if "@" in name else User.username_folded
    with transaction(session) as here:
        return here.scalar(select(User).where(column == fold(name)))


def lock_user(session: Session, user_id: int) -> User:
    """Return the user as it is now, held until the transaction ends, or raise `NotFound`."""
    user = session.get(User, user_id, with_for_update=True, populate_existing=True)
    if user is None:
        raise NotFound
    return user


def account_of(user: User) -> str:
    """Name the user's counter of failures."""
    return f"user {user.id}"


def list_admins(session: Session) -> Sequence[User]:
    """Return the active administrators."""
    with transaction(session) as here:
        return here.scalars(select(User).where(User.role == "admin", User.active).order_by(User.id)).all()


def make_first_administrator(
    session: Session, hasher: Hasher, *, username: str, email: str, password: str
) -> None:
    """Make the administrator of the settings when there is none; any number may try at once."""
    with transaction(session) as here:
        if here.scalar(select(User.id).where(User.role == "admin").limit(1)) is not None:
            return
    if not password:
        log.warning("no administrator made, because ADMIN_PASSWORD is empty")
        return
    try:
        name, address = clean_username(username), clean_email(email)
        user = register(session, hasher, username=name, email=address, password=password, role="admin")
    except ValueError as error:
        log.error("no administrator made: ADMIN_USERNAME or ADMIN_EMAIL is refused", reason=str(error))
    except (UsernameTaken, EmailTaken) as error:
        # Another replica was faster, or a customer has the name.
        log.warning("administrator not made", reason=str(error))
    else:
        log.info("first administrator made", user_id=user.id)
