"""The own copy of users."""

from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.orm import Session

from chassis.db import transaction
from notification_service.clients import UserService
from notification_service.errors import UnknownUser
from notification_service.events import UserData
from notification_service.models import Person


def save_person(session: Session, user: UserData, *, sequence: int) -> None:
    """Keep what an event tells of a user, unless a newer one has told more."""
    with transaction(session) as here:
        here.execute(keep(Person.__table__, user, sequence=sequence))


def keep(table: Table, user: UserData, *, sequence: int) -> Insert:
    """Make the statement that keeps a user in a table, unless it has them as a newer event told."""
    values = {**user.model_dump(), "sequence": sequence}
    statement = insert(table).values(values)
    return statement.on_conflict_do_update(
        index_elements=["user_id"],
        set_={name: statement.excluded[name] for name in values if name != "user_id"},
        where=table.c.sequence < statement.excluded.sequence,
    )


def ask_for_person(session: Session, user_id: int, users: UserService) -> UserData | None:
    """Return what the user service tells of a user whose events have not come yet, None of others."""
    with transaction(session) as here:
        known = here.get(Person, user_id) is not None
    if known:
        return None
    told = users.find_user(user_id)
    if told is None:
        raise UnknownUser(f"the user service knows no user {user_id}")
    return told


def find_person(session: Session, user_id: int, told: UserData | None) -> Person:
    """Return a user, of whom the user service may have told when no event had yet."""
    if person := session.get(Person, user_id):
        return person
    if told is None:
        raise UnknownUser(f"user {user_id} was forgotten a moment ago")
    # Every event is newer than an answer without a sequence.
    values: dict[str, Any] = {**told.model_dump(), "sequence": 0}
    session.execute(insert(Person).values(values).on_conflict_do_nothing())
    return Person(**values)
