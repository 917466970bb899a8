"""Redis or the database is away."""

import time

import pytest
from sqlalchemy import text

from chassis.cli import prepare
from tests.servers import run_redis
from tests.user.ailing_redis import run_wilful_redis
from tests.user.people import PASSWORD, Person, refusal, registration


def password_hash_of(person):
    with person.app.app_context():
        session = person.app.extensions["sqlalchemy"].session
        statement = text("SELECT password_hash FROM users WHERE id = :id")
        return session.execute(statement, {"id": person.user["id"]}).scalar_one()


def unavailable(answer):
    assert refusal(answer) == (503, "service_unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    return True


@pytest.fixture
def without_redis(make_user_app):
    """Return an app whose Redis has gone, and somebody who signed in before."""
    with run_redis() as server:
        app = make_user_app(redis_host=server.host, redis_port=server.port, redis_password=server.password)
        person = Person(app).register().sign_in()
        assert person.get("/profile").status_code == 200
        server.child.kill()
        yield person


def test_without_redis_who_is_signed_in_stays_and_others_wait(without_redis):
    person = without_redis
    assert person.get("/profile").status_code == 200
    assert person.put("/profile", {"nickname": "n"}).status_code == 200
    assert person.post("/register", registration()).status_code == 201
    before = password_hash_of(person)
    started = time.monotonic()
    credentials = {"username": person.user["username"], "password": "wrong"}
    assert unavailable(person.post("/login", credentials))
    assert unavailable(person.refresh())
    assert unavailable(person.post("/logout"))
    assert unavailable(person.get("/sessions"))
    words = {"current_password": PASSWORD, "new_password": "ein ganz neues Wort"}
    assert unavailable(person.put("/profile/password", words))
    assert password_hash_of(person) == before
    assert time.monotonic() - started < 9
    # Nothing has changed: the session that could not be ended goes on.
    assert person.get("/profile").status_code == 200


def test_a_redis_that_refuses_to_write_is_one_that_is_away(make_user_app):
    with run_wilful_redis() as server:
        app = make_user_app(
            redis_port=server.port, redis_password=server.password, limit_read_per_address=1000
        )
        prepare(app)
        boss, person = Person(app, user={"username": "root"}).sign_in(), Person(app).register().sign_in()
        credentials = {"username": person.user["username"], "password": PASSWORD}
        server.refuse_writes()
        assert person.get("/profile").status_code == 200
        assert person.post("/password/forgot", {"email": person.user["email"]}).status_code == 202
        assert unavailable(person.post("/login", credentials))
        assert unavailable(person.refresh())
        assert unavailable(person.post("/logout"))
        assert unavailable(boss.patch(f"/users/{person.user['id']}", {"role": "admin"}))
        server.refuse_writes(False)
        assert person.refresh().json["user"] == person.user


def test_a_service_that_starts_without_redis_serves(make_user_app):
    anyone = Person(make_user_app(redis_port=1))
    assert anyone.post("/register", registration()).status_code == 201
    assert anyone.app.test_client().get("/.well-known/jwks.json").status_code == 200
    health = anyone.app.test_client().get("/health")
    assert (health.status_code, health.json["checks"]["redis"]) == (200, "away")


def test_without_the_database_everything_waits(make_user_app):
    anyone = Person(make_user_app("user_migrated", db_port=1))
    assert unavailable(anyone.post("/register", registration()))
    assert unavailable(anyone.post("/login", {"username": "a", "password": "b"}))
    assert unavailable(anyone.app.test_client().get("/.well-known/jwks.json"))
