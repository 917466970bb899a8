"""What has become of events, for the service that sent them."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from chassis.db import transaction
from chassis.inbox import InboxEntry
from notification_service.models import Notification


def find_mailed(session: Session, event_ids: Sequence[UUID]) -> Sequence[UUID | None]:
    """Return those of the events that have become a mail: to be sent, sent, failed or suppressed."""
    statement = select(Notification.event_id).where(
        Notification.event_id.in_(event_ids), Notification.channel == "email"
    )
    return session.scalars(statement.distinct()).all()


def forget_handled(session: Session, event_ids: Sequence[UUID]) -> None:
    """Forget that events were handled which have become no mail, so that they count when they come again."""
    with transaction(session) as here:
        lost = set(event_ids).difference(find_mailed(here, event_ids))
        here.execute(delete(InboxEntry).where(InboxEntry.event_id.in_(lost)))
