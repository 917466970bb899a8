"""What administrators do with other people's accounts."""

from contextlib import ExitStack
from typing import NamedTuple

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from chassis.db import transaction
from chassis.errors import NotFound
from chassis.events import record
from chassis.paging import Page, fetch_page
from user_service import events
from user_service.errors import LastAdmin
from user_service.models import User
from user_service.names import fold
from user_service.services.tools import Tools


class Standing(NamedTuple):
    """What an administrator decides about an account."""

    role: str
    active: bool


def list_users(session: Session, *, q: str | None, cursor: str | None, limit: int) -> Page[User]:
    """Return a page of users, the newest first, whose name or e-mail address has `q` in it."""
    statement = select(User)
    if q:
        part = fold(q)
        columns = (User.username_folded, User.email_folded, func.lower(User.nickname))
        statement = statement.where(or_(*(column.contains(part, autoescape=True) for column in columns)))
    with transaction(session) as here:
        return fetch_page(here, statement, keys=[User.id], cursor=cursor, limit=limit)


def change_user(
    session: Session, tools: Tools, user_id: int, *, role: str | None = None, active: bool | None = None
) -> User:
    """Give another role, disable or enable; works on every service within a second.

    Raises `LastAdmin` when nobody would be left to administrate. While Redis is away nothing is changed.
    """
    with ExitStack() as undo:
        with transaction(session) as here:
            user, concerned = _lock_with_admins(here, user_id)
            before = Standing(user.role, user.active)
            after = Standing(role or before.role, before.active if active is None else active)
            if after == before:
                return user
            user.role, user.active = after
            if not any(other.role == "admin" and other.active for other in concerned):
                raise LastAdmin
            record(here, events.user_updated(user))
            # Tokens are refused before the commit; if that fails, they are good again.
            undo.callback(_enforce, tools, user_id, after, before)
            _enforce(tools, user_id, before, after)
        undo.pop_all()
    return user


def _lock_with_admins(session: Session, user_id: int) -> tuple[User, list[User]]:
    """Lock the user and every active administrator, all in one order, so that no two wait for each other."""
    concerned = or_(User.id == user_id, (User.role == "admin") & User.active)
    statement = select(User).where(concerned).order_by(User.id).with_for_update()
    users = list(session.scalars(statement, execution_options={"populate_existing": True}))
    user = next((user for user in users if user.id == user_id), None)
    if user is None:
        raise NotFound
    return user, users


def _enforce(tools: Tools, user_id: int, before: Standing, after: Standing) -> None:
    """Let every service know that the user's tokens of before count no more."""
    if after.role != before.role:
        tools.sessions.change_role(user_id, old=before.role, new=after.role)
    if after.active and not before.active:
        tools.sessions.let_in(user_id)
    if before.active and not after.active:
        tools.sessions.shut_out(user_id)
