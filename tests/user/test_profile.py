"""Somebody looks at and changes their own account."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.user.people import events_of, refusal, wrong_fields


def test_shows_the_user(customer):
    answer = customer.get("/profile")
    assert (answer.status_code, answer.json) == (200, customer.user)


def test_is_for_who_is_signed_in(anyone):
    for answer in (anyone.get("/profile"), anyone.put("/profile", {})):
        assert refusal(answer) == (401, "unauthorized")
        assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_changes_what_is_sent_and_nothing_else(customer):
    changed = customer.put("/profile", {"nickname": "小红", "locale": "en"}).json
    assert changed["updated_at"] > customer.user["updated_at"]
    expected = customer.user | {"nickname": "小红", "locale": "en", "updated_at": changed["updated_at"]}
    assert changed == expected == customer.get("/profile").json


def test_takes_phone_and_nickname_away_with_null(customer):
    customer.put("/profile", {"phone": "+8613800138000", "nickname": "n"})
    changed = customer.put("/profile", {"phone": None, "nickname": None}).json
    assert (changed["phone"], changed["nickname"]) == (None, None)


def test_a_new_name_is_the_one_to_sign_in_with(customer):
    name = customer.user["username"].swapcase() + ".new"
    changed = customer.put("/profile", {"username": name})
    assert changed.json["username"] == name
    old = customer.post("/login", {"username": customer.user["username"], "password": "x"})
    assert refusal(old) == (401, "invalid_credentials")
    assert customer.get("/profile").json["username"] == name


def test_ones_own_name_may_change_its_case(customer):
    name = customer.user["username"].upper()
    assert customer.put("/profile", {"username": name}).json["username"] == name


def test_refuses_a_name_that_somebody_has_and_changes_nothing(customer, anyone):
    other = anyone.register()
    answer = customer.put("/profile", {"username": other.user["username"].upper(), "nickname": "n"})
    assert refusal(answer) == (409, "username_taken")
    assert customer.get("/profile").json == customer.user


def test_of_two_who_want_one_name_one_gets_it(app, anyone):
    people = [anyone.register().sign_in() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda one: one.put("/profile", {"username": "wanted"}), people))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]


def test_records_a_change_that_others_should_know(app, customer):
    customer.put("/profile", {"phone": "13800138000", "nickname": "n"})
    registered, updated = events_of(app, customer.user["id"])
    assert updated["type"] == "user.updated"
    assert updated["data"] == registered["data"] | {"phone": "+8613800138000"}
    assert updated["sequence"] > registered["sequence"]


@pytest.mark.parametrize("same", [{}, {"nickname": "n"}, {"locale": "zh-CN"}])
def test_records_nothing_when_nothing_changed_for_others(app, customer, same):
    assert customer.put("/profile", same).status_code == 200
    assert len(events_of(app, customer.user["id"])) == 1


def test_of_changes_at_once_each_is_told_in_order(app, customer):
    numbers = [f"+4930{number:06}" for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda phone: customer.put("/profile", {"phone": phone}), numbers))
    assert {answer.status_code for answer in answers} == {200}
    told = [event["data"]["phone"] for event in events_of(app, customer.user["id"])]
    assert sorted(told[1:]) == numbers
    assert told[-1] == customer.get("/profile").json["phone"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("username", None),
        ("username", "x"),
        ("phone", 5),
        ("phone", "12"),
        ("nickname", ""),
        ("nickname", "  "),
        ("nickname", "n" * 51),
        ("nickname", "a\r\nb"),
        ("nickname", "\ud800"),
        ("locale", None),
        ("locale", "fr"),
        ("email", "nobody"),
        ("email", None),
        ("current_password", 1),
        ("role", "admin"),
        ("id", 1),
    ],
)
def test_names_the_field_that_is_wrong(customer, field, value):
    assert wrong_fields(customer.put("/profile", {field: value})) == [field]
    assert customer.get("/profile").json == customer.user


def test_takes_a_constant_number_of_statements(customer, statements):
    customer.get("/profile")
    assert len(statements) == 1
    statements.clear()
    customer.put("/profile", {"phone": "+4930123456", "nickname": "n", "locale": "en"})
    assert len(statements) == 3
