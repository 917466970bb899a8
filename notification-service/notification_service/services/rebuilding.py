"""The own copy of users made anew from every event there ever was, while readers and consumers go on."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from sqlalchemy import Engine, MetaData, text
from sqlalchemy.orm import Session

from chassis.db import transaction
from chassis.events import Envelope
from notification_service.clients import UserService
from notification_service.events import UserData
from notification_service.models import Person
from notification_service.services.people import keep

PAGE = 500
# What tells of a user; nobody is greeted or mailed here.
TELLING = frozenset({"user.registered", "user.updated"})
DRAFT = Person.__table__.to_metadata(MetaData(), name="people_rebuilt")
FACTS = [column.name for column in DRAFT.columns if column.name != "user_id"]

_MAKE = text("CREATE TEMPORARY TABLE people_rebuilt (LIKE people INCLUDING INDEXES)")

_AHEAD = text(
    """
    SELECT user_id, people.sequence FROM people LEFT JOIN people_rebuilt USING (user_id)
    WHERE people.sequence > coalesce(people_rebuilt.sequence, 0) ORDER BY user_id
    """
)

_REMOVE = text(
    """
    DELETE FROM people USING unnest(CAST(:ids AS bigint[]), CAST(:sequences AS bigint[])) AS wrong (id, seen)
    WHERE user_id = id AND sequence = seen RETURNING user_id
    """
)

_TAKE_OVER = text(
    f"""
    INSERT INTO people (user_id, {", ".join(FACTS)}) SELECT user_id, {", ".join(FACTS)} FROM people_rebuilt
    ON CONFLICT (user_id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in FACTS)}
    WHERE people.sequence <= excluded.sequence AND people IS DISTINCT FROM excluded
    RETURNING user_id
    """
)


@dataclass(frozen=True)
class Rebuilt:
    """What came of it."""

    events: int
    written: int
    removed: int


def rebuild_people(engine: Engine, users: UserService) -> Rebuilt:
    """Bring every row to what the user service's events say; raise `DependencyAway` before any is changed.

    The copy is made in a table of this connection's own, and takes the place of what is there in one
    transaction. A row that an event has changed meanwhile stays: the older never goes over the newer.
    """
    connection = engine.connect()
    # The temporary table goes with the connection, however this ends.
    connection.detach()
    with closing(connection), Session(connection, autoflush=False) as session:
        with transaction(session) as here:
            here.execute(_MAKE)
        events = sum(_replay(session, page) for page in _pages(users))
        wrong = _find_wrong(session, users)
        # The last step takes as long as it takes; those who write meanwhile wait, and try again.
        setattr(connection.connection.dbapi_connection, "silence", None)  # noqa: B010
        with transaction(session) as here:
            here.execute(text("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '5s'"))
            here.execute(text("LOCK TABLE people IN SHARE ROW EXCLUSIVE MODE"))
            ids, sequences = list(wrong), list(wrong.values())
            removed = set(here.scalars(_REMOVE, {"ids": ids, "sequences": sequences}))
            written = set(here.scalars(_TAKE_OVER))
    return Rebuilt(events, len(written), len(removed - written))


def _pages(users: UserService, subject: str | None = None) -> Iterator[list[Envelope]]:
    after = 0
    while True:
        page = users.read_events(after=after, limit=PAGE, subject=subject)
        yield page
        if len(page) < PAGE:
            return
        after = page[-1].sequence


def _replay(session: Session, page: list[Envelope]) -> int:
    with transaction(session) as here:
        for event in page:
            if event.type in TELLING:
                user = UserData.model_validate(event.data)
                here.execute(keep(DRAFT, user, sequence=event.sequence))
    return len(page)


def _find_wrong(session: Session, users: UserService) -> dict[int, int]:
    """Return the rows that are ahead of the history read so far, and of all there is: no event made them."""
    with transaction(session) as here:
        ahead = {row.user_id: row.sequence for row in here.execute(_AHEAD)}
    for user_id in ahead:
        # Seen before it is asked for here, so that the event of a good row must be there by now.
        for page in _pages(users, str(user_id)):
            _replay(session, page)
    with transaction(session) as here:
        still = {row.user_id: row.sequence for row in here.execute(_AHEAD)}
    return {user_id: seen for user_id, seen in ahead.items() if still.get(user_id) == seen}
