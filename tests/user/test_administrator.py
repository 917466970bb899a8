"""The first administrator is made of the settings, once."""

from pathlib import Path

import pytest

from chassis.cli import prepare
from tests.user.people import PASSWORD, Person, events_of, refusal
from user_service.config import PUBLISHED_PASSWORD


def sign_in(app, name="root"):
    return Person(app).post("/login", {"username": name, "password": PASSWORD})


def test_can_sign_in_and_is_told_as_others_are(make_user_app):
    app = make_user_app()
    prepare(app)
    user = sign_in(app).json["user"]
    assert (user["username"], user["email"], user["role"]) == ("root", "root@example.com", "admin")
    [event] = events_of(app, user["id"])
    assert (event["type"], event["data"]["role"]) == ("user.registered", "admin")


def test_is_not_made_again_under_another_name(make_user_app):
    app = make_user_app()
    prepare(app)
    prepare(make_user_app(app.config["SETTINGS"].db_name, admin_username="second"))
    assert refusal(sign_in(app, "second")) == (401, "invalid_credentials")


def test_keeps_a_changed_password_at_the_next_start(make_user_app):
    app = make_user_app()
    prepare(app)
    prepare(make_user_app(app.config["SETTINGS"].db_name, admin_password="changed in the settings"))
    assert sign_in(app).status_code == 200


@pytest.fixture
def published(make_user_app):
    """A shop that was started with what `.env.example` says, and its administrator, signed in."""
    app = make_user_app(admin_password=PUBLISHED_PASSWORD)
    prepare(app)
    return app, Person(app, user={"username": "root"}).sign_in(PUBLISHED_PASSWORD)


def test_a_password_that_is_published_gives_way_to_that_of_the_settings(published, make_user_app):
    app, known = published
    prepare(make_user_app(app.config["SETTINGS"].db_name, admin_password=PASSWORD))
    assert refusal(known.refresh())[0] == 401
    assert refusal(known.post("/login", {"username": "root", "password": PUBLISHED_PASSWORD}))[0] == 401
    assert sign_in(app).status_code == 200


def test_a_password_that_is_published_stays_while_redis_is_away(published, make_user_app):
    app, known = published
    prepare(make_user_app(app.config["SETTINGS"].db_name, admin_password=PASSWORD, redis_port=1))
    assert known.refresh().status_code == 200
    assert refusal(sign_in(app)) == (401, "invalid_credentials")


def test_the_published_password_is_that_of_the_example():
    example = (Path(__file__).parents[2] / ".env.example").read_text()
    assert f"\nADMIN_PASSWORD={PUBLISHED_PASSWORD}\n" in example


@pytest.mark.parametrize(
    "settings", [{"admin_password": ""}, {"admin_username": "x"}, {"admin_email": "nowhere"}]
)
def test_the_service_starts_without_one_that_can_not_be_made(make_user_app, settings):
    app = make_user_app(**settings)
    prepare(app)
    assert refusal(sign_in(app)) == (401, "invalid_credentials")


def test_a_customer_who_has_the_name_stays_a_customer(make_user_app):
    app = make_user_app()
    Person(app).register(username="ROOT")
    prepare(app)
    assert sign_in(app).json["user"]["role"] == "customer"
