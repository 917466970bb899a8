"""Every event that a service ever recorded, in pages, for the services whose read models are made of them."""

from typing import Any

from flask import current_app
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from chassis.api import Api, View
from chassis.events import Event, to_cloudevent
from chassis.reading import Query

SCOPE = "events.read"
MOST = 500


class HistoryQuery(Query):
    """Which events: those that follow a sequence, of one subject or of all."""

    after: int = Field(default=0, ge=0, le=2**63 - 1)
    limit: int = Field(default=100, ge=1, le=MOST)
    subject: str | None = Field(default=None, max_length=255)


class HistoryPage(View):
    """CloudEvents as they are sent, by sequence; fewer than asked for are the last."""

    items: list[dict[str, Any]]


def read_history(session: Session, *, after: int, limit: int, subject: str | None = None) -> list[Event]:
    """Return the events that follow a sequence.

    One that is being recorded may show up later with a lower sequence; it is delivered like any other.
    """
    statement = select(Event).where(Event.sequence > after)
    if subject is not None:
        statement = statement.where(Event.subject == subject)
    return list(session.scalars(statement.order_by(Event.sequence).limit(limit)))


def make_history_api() -> Api:
    """Make the route of a service whose events others may read again; `SCOPE` is what they need."""
    api = Api("history", prefix="/internal/v1")

    @api.get("/events", who="service", scope=SCOPE, query=HistoryQuery, answers={200: HistoryPage})
    def list_events(query: HistoryQuery) -> object:
        """Show events from the beginning, or of one subject."""
        edge = current_app.extensions["edge"]
        events = read_history(edge.session(), after=query.after, limit=query.limit, subject=query.subject)
        return {"items": [to_cloudevent(event, edge.settings.service) for event in events]}

    return api
