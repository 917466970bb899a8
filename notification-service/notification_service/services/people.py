"""The own copy of users."""

from typing import Any

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from chassis.db import transaction
from notification_service.clients import UserService
from notification_service.errors import UnknownUser
from notification_service.events import UserData
from notification_service.models import Person


def save_person(session: Session, user: UserData, *, sequence: int) -> None:
    """Keep what an event tells of a user, unless a newer one has told more."""
    values = {**user.model_dump(), "sequence": sequence}
    statement = insert(Person).values(values)
    statement = statement.on_conflict_do_update(
        index_elements=["user_id"],
        set_={name: statement.excluded[name] for name in values if name != "user_id"},
        where=Person.sequence < statement.excluded.sequence,
    )
    with transaction(session) as here:
        here.execute(statement)


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
