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


def find_person(session: Session, user_id: int, users: UserService) -> Person:
    """Return a user, asking the user service for one whose events have not come yet."""
    if person := session.get(Person, user_id):
        return person
    user: Any = users.find_user(user_id)
    if user is None:
        raise UnknownUser(f"the user service knows no user {user_id}")
    # Every event is newer than an answer without a sequence.
    values = {**user.model_dump(), "sequence": 0}
    session.execute(insert(Person).values(values).on_conflict_do_nothing())
    return Person(**values)
