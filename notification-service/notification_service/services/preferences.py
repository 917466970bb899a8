"""Which optional messages a user wants."""

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from chassis.db import transaction
from notification_service.models import Preferences


def read_preferences(session: Session, user_id: int) -> Preferences:
    """Return a user's preferences; who has set none gets everything."""
    kept = session.get(Preferences, user_id)
    return kept or Preferences(user_id=user_id, email=True, sms=True, push=True)


def write_preferences(session: Session, user_id: int, *, email: bool, sms: bool, push: bool) -> Preferences:
    """Set a user's preferences."""
    values = {"email": email, "sms": sms, "push": push}
    statement = insert(Preferences).values(user_id=user_id, **values)
    with transaction(session) as here:
        here.execute(statement.on_conflict_do_update(index_elements=["user_id"], set_=values))
    return Preferences(user_id=user_id, **values)
