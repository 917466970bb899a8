"""What was sent, and sending a failed one again."""

from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from chassis.db import transaction
from chassis.errors import NotFound
from chassis.paging import Page, fetch_page
from chassis.tokens import Identity
from notification_service.errors import NotYours
from notification_service.models import Notification


def list_history(
    session: Session,
    reader: Identity,
    *,
    user_id: int | None,
    cursor: str | None,
    limit: int,
    **filters: str | None,
) -> Page[Notification]:
    """List notifications, newest first: a user's own, or an administrator's choice.

    `filters` are columns and the values that they must have; None filters nothing.
    """
    if not reader.is_admin:
        if user_id not in (None, reader.user_id):
            raise NotYours
        user_id = reader.user_id
    statement = select(Notification)
    for name, value in {"user_id": user_id, **filters}.items():
        if value is not None:
            statement = statement.where(getattr(Notification, name) == value)
    return fetch_page(session, statement, keys=[Notification.id], cursor=cursor, limit=limit)


def retry_notification(session: Session, notification_id: UUID) -> Notification:
    """Queue a failed notification again."""
    with transaction(session) as here:
        notification = here.get(Notification, notification_id, with_for_update=True)
        if notification is None:
            raise NotFound
        notification.retry(here.scalars(select(func.now())).one())
    return notification
