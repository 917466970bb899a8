"""Somebody moves to another e-mail address."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.user.people import PASSWORD, events_of, refusal, registration, wrong_fields
from user_service.services.attempts import MOST_MAILS


@pytest.fixture
def new():
    return f"New.{uuid.uuid4().hex[:12]}@example.com"


def ask(person, email, password=PASSWORD, **fields):
    return person.put("/profile", {"email": email, "current_password": password} | fields)


def confirm(person, issue):
    issued = issue(person.user["id"], {"purpose": "email_change"})
    assert issued.status_code == 201, issued.json
    return person.post("/email/verify", {"token": issued.json["token"]})


def test_counts_once_it_is_verified(app, customer, new, issue):
    asked = ask(customer, new, nickname="n")
    assert asked.status_code == 200
    old = customer.user["email"]
    shown = [asked.json[name] for name in ("email", "pending_email", "nickname")]
    assert shown == [old, new, "n"]
    assert confirm(customer, issue).status_code == 204
    user = customer.get("/profile").json
    assert (user["email"], user["email_verified"], user["pending_email"]) == (new, True, None)
    credentials = {"username": new.upper(), "password": PASSWORD}
    assert customer.post("/login", credentials).status_code == 200
    assert refusal(customer.post("/login", credentials | {"username": old})) == (401, "invalid_credentials")
    _, requested, updated = events_of(app, customer.user["id"])
    assert requested["type"] == "user.email.change.requested"
    assert requested["data"] == {"user_id": customer.user["id"], "email": old, "new_email": new}
    assert (updated["type"], updated["data"]["email"]) == ("user.updated", new)


def test_needs_the_password(customer, new):
    assert wrong_fields(customer.put("/profile", {"email": new})) == ["current_password"]
    assert refusal(ask(customer, new, "not the password", nickname="n")) == (403, "wrong_password")
    assert customer.get("/profile").json == customer.user


def test_to_somebody_elses_is_refused(customer, anyone):
    other = anyone.register().user
    assert refusal(ask(customer, other["email"].upper(), nickname="n")) == (409, "email_taken")
    assert customer.get("/profile").json == customer.user


def test_of_two_who_want_one_address_one_gets_it(customer, anyone, new, issue):
    people = [customer, anyone.register().sign_in()]
    for person in people:
        assert ask(person, new).status_code == 200
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda person: confirm(person, issue), people))
    assert sorted(answer.status_code for answer in answers) == [204, 409]
    assert refusal(anyone.post("/register", registration(email=new))) == (409, "email_taken")


def test_the_last_wish_counts(customer, new, issue):
    ask(customer, new)
    early = issue(customer.user["id"], {"purpose": "email_change"}).json["token"]
    ask(customer, f"other-{new}")
    assert refusal(customer.post("/email/verify", {"token": early})) == (400, "invalid_token")
    assert confirm(customer, issue).status_code == 204
    assert customer.get("/profile").json["email"] == f"other-{new}"


def test_naming_the_present_address_gives_it_up(app, customer, new, issue):
    ask(customer, new)
    assert ask(customer, customer.user["email"]).json["pending_email"] is None
    assert refusal(issue(customer.user["id"], {"purpose": "email_change"})) == (404, "not_found")
    assert len(events_of(app, customer.user["id"])) == 2


def test_a_changed_password_gives_it_up(customer, new, issue):
    ask(customer, new)
    token = issue(customer.user["id"], {"purpose": "email_change"}).json["token"]
    words = {"current_password": PASSWORD, "new_password": "ein ganz neues Wort"}
    assert customer.put("/profile/password", words).status_code == 204
    assert refusal(customer.post("/email/verify", {"token": token})) == (400, "invalid_token")
    assert customer.get("/profile").json["pending_email"] is None


def test_a_reset_for_the_old_address_ends_with_it(customer, new, issue):
    reset = issue(customer.user["id"], {"purpose": "recovery"}).json["token"]
    ask(customer, new)
    assert confirm(customer, issue).status_code == 204
    body = {"token": reset, "new_password": "ein ganz neues Wort"}
    assert refusal(customer.post("/password/reset", body)) == (400, "invalid_token")


def test_sends_only_so_many_mails(customer, new):
    codes = [ask(customer, f"{number}{new}").status_code for number in range(MOST_MAILS + 1)]
    assert codes == [200] * MOST_MAILS + [429]


def test_takes_a_constant_number_of_statements(customer, new, statements):
    ask(customer, new)
    # The password's owner, their lock, old tokens, the address, the change, the event.
    assert len(statements) == 6
