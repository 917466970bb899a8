"""What administrators do with other people's accounts."""

from contextlib import ExitStack
from typing import NamedTuple

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from chassis.db import transaction
from chassis.errors import DependencyAway, NotFound
from chassis.events import record
from chassis.paging import Page, fetch_page
from user_service import events
from user_service.errors import LastAdmin
from user_service.models import User
from user_service.names import fold
from user_service.services.tools import Tools

ROLES = frozenset({"customer", "admin"})


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
    with ExitStack() as unknown:
        with transaction(session) as here:
            user, concerned = _lock_with_admins(here, user_id)
            before = Standing(user.role, user.active)
            after = Standing(role or before.role, before.active if active is None else active)
            if after != before:
                user.role, user.active = after
                if not any(other.role == "admin" and other.active for other in concerned):
                    raise LastAdmin
                record(here, events.user_updated(user))
            _enforce_or_undo(tools, user_id, before, after)
            # The commit may take effect even though its answer never comes.
            unknown.callback(_hold_back, tools, user_id, before, after)
        unknown.pop_all()
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


def _enforce_or_undo(tools: Tools, user_id: int, before: Standing, after: Standing) -> None:
    """Enforce a standing, or else what was before, as long as the row is locked and so is still that."""
    try:
        _enforce(tools, user_id, after)
    except DependencyAway:
        _enforce(tools, user_id, before)
        raise


def _enforce(tools: Tools, user_id: int, standing: Standing) -> None:
    """Let every service know which of the user's tokens count.

    Also of what seems to be so already: who asked for it once and heard nothing asks again.
    """
    for role in ROLES - {standing.role}:
        tools.sessions.change_role(user_id, old=role, new=standing.role)
    if standing.active:
        tools.sessions.let_in(user_id)
    else:
        tools.sessions.shut_out(user_id)


def _hold_back(tools: Tools, user_id: int, *standings: Standing) -> None:
    """Refuse what any of the standings refuses, until somebody asks again; nobody knows which one counts.

    The row is locked no longer, so this lets nobody in whom another has shut out meanwhile.
    """
    if any(standing.role != "admin" for standing in standings):
        tools.sessions.change_role(user_id, old="admin", new="customer")
    if not all(standing.active for standing in standings):
        tools.sessions.shut_out(user_id)
