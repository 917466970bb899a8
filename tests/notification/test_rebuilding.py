"""The own copy of users is made anew from events: never empty, never older, and nobody is mailed."""

import uuid

import pytest
from sqlalchemy import text

from chassis.events import Envelope
from notification_service import create_app
from notification_service.models import Notification, Person, db
from notification_service.services import rebuilding
from tests.contracts.event_schemas import examples

FACTS = ("user_id", "username", "email", "locale", "role", "active", "sequence")


@pytest.fixture
def tell(users):
    """Return what adds an event to the user service's history."""

    def add(user_id: int, sequence: int, event_type: str = "user.updated", **data) -> Envelope:
        example = examples(event_type)[0]
        told = {**example["data"], "user_id": user_id, "email": f"{user_id}-{sequence}@example.com", **data}
        fresh = {"id": str(uuid.uuid4()), "sequence": sequence, "subject": str(user_id)}
        event = example | fresh | {"data": told}
        users.history.append(event)
        users.history.sort(key=lambda one: one["sequence"])
        return Envelope.model_validate(event)

    return add


@pytest.fixture
def rebuild(app, monkeypatch):
    """Return what runs the command, in small pages; it returns exit status and output."""
    monkeypatch.setattr(rebuilding, "PAGE", 2)

    def run() -> tuple[int, str]:
        done = app.test_cli_runner().invoke(args=["rebuild", "people"], catch_exceptions=False)
        return done.exit_code, done.output.strip()

    return run


def people(app) -> dict[int, tuple[str, int]]:
    """Return address and sequence of everybody in the own copy."""
    with app.app_context():
        return {p.user_id: (p.email, p.sequence) for p in db.session.scalars(db.select(Person))}


def change(app, statement: str, **values) -> None:
    with app.app_context(), db.engine.begin() as connection:
        connection.execute(text(statement), values)


def test_everybody_is_as_the_newest_event_says(app, tell, rebuild):
    for sequence, user_id in enumerate((1, 2, 1, 3, 2), start=1):
        tell(user_id, sequence, "user.registered" if sequence < 3 else "user.updated")
    tell(3, 6, "user.recovery.requested")
    assert rebuild() == (0, "6 events read  3 rows written  0 removed")
    assert people(app) == {1: ("1-3@example.com", 3), 2: ("2-5@example.com", 5), 3: ("3-4@example.com", 4)}
    assert rebuild() == (0, "6 events read  0 rows written  0 removed")


def test_nobody_is_greeted(app, tell, rebuild):
    tell(1, 1, "user.registered")
    rebuild()
    with app.app_context():
        assert db.session.scalars(db.select(Notification)).all() == []


def test_what_went_wrong_in_the_copy_is_put_right(app, tell, rebuild, deliver):
    for user_id in (1, 2, 3):
        deliver("user.updated", tell(user_id, user_id))
    change(app, "UPDATE people SET email = 'wrong@example.com' WHERE user_id = 1")
    change(app, "UPDATE people SET email = 'wrong@example.com', sequence = 900 WHERE user_id = 2")
    change(app, "UPDATE people SET user_id = 77 WHERE user_id = 3")
    assert rebuild() == (0, "3 events read  3 rows written  1 removed")
    assert people(app) == {n: (f"{n}-{n}@example.com", n) for n in (1, 2, 3)}


def test_somebody_who_was_asked_for_before_their_event_stays(app, tell, rebuild, deliver):
    tell(1, 1)
    deliver("order.paid")
    assert rebuild() == (0, "1 events read  1 rows written  0 removed")
    assert people(app)[42][1] == 0


def test_an_event_that_arrives_meanwhile_is_not_undone(app, tell, rebuild, deliver, users):
    for sequence in (1, 3, 5):
        tell(1, sequence)
    deliver("user.updated", tell(2, 6))

    def meanwhile() -> None:
        users.before_page = lambda: None
        # One that is known to the history from now on, and one that was late: lower than what was read.
        deliver("user.updated", tell(1, 9))
        deliver("user.registered", tell(4, 2, "user.registered"))

    pages = iter([lambda: None, meanwhile])
    users.before_page = lambda: next(pages, lambda: None)()
    assert rebuild()[0] == 0
    assert people(app) == {1: ("1-9@example.com", 9), 2: ("2-6@example.com", 6), 4: ("4-2@example.com", 2)}


def test_readers_find_everybody_all_the_time(app, tell, rebuild, users):
    for sequence in range(1, 8):
        tell(sequence % 3, sequence)
    rebuild()
    before, seen = people(app), []
    users.before_page = lambda: seen.append(people(app))
    rebuild()
    assert len(seen) >= 4
    assert all(one == before for one in seen)


def test_without_the_user_service_nothing_is_changed(app, tell, rebuild, users, deliver):
    deliver("user.updated", tell(1, 1))
    change(app, "UPDATE people SET email = 'wrong@example.com'")
    users.fails_with = 500
    assert rebuild() == (2, "the user service is away; nothing was changed")
    assert people(app) == {1: ("wrong@example.com", 1)}


def test_without_its_own_database_it_says_so(app):
    settings = app.config["SETTINGS"].model_copy(update={"db_port": 1})
    settings.__dict__.pop("database_url", None)
    done = create_app(settings).test_cli_runner().invoke(args=["rebuild", "people"])
    assert (done.exit_code, done.output) == (2, "the database is away; nothing was changed\n")
