"""Somebody registers."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from tests.user.people import events_of, refusal, registration, wrong_fields


def test_answers_the_user_without_any_secret(anyone):
    body = registration(phone="+8613800138000")
    answer = anyone.post("/register", body)
    assert answer.status_code == 201
    user = answer.json
    fields = "id username email email_verified pending_email phone nickname locale role active".split()
    assert set(user) == {*fields, "created_at", "updated_at"}
    assert (user["username"], user["email"], user["phone"]) == (
        body["username"],
        body["email"],
        body["phone"],
    )
    assert (user["role"], user["active"], user["email_verified"]) == ("customer", True, False)
    assert (user["locale"], user["nickname"]) == ("zh-CN", None)
    assert user["created_at"].endswith("Z")


def test_records_what_happened_in_the_same_transaction(app, anyone):
    user = anyone.register(phone="13800138000", locale="en").user
    [event] = events_of(app, user["id"])
    assert (event["type"], event["source"]) == ("user.registered", "user-service")
    assert event["data"] == {
        "user_id": user["id"],
        "username": user["username"],
        "email": user["email"],
        "phone": "+8613800138000",
        "locale": "en",
        "role": "customer",
        "active": True,
    }


def test_keeps_only_a_salted_hash_of_the_password(app, anyone):
    first, second = anyone.register(), anyone.register()
    with app.app_context():
        hashes = (
            app.extensions["sqlalchemy"]
            .session.scalars(
                text("SELECT password_hash FROM users WHERE id IN (:a, :b)"),
                {"a": first.user["id"], "b": second.user["id"]},
            )
            .all()
        )
    assert all(value.startswith("$2b$") for value in hashes)
    assert len(set(hashes)) == 2


def test_refuses_a_name_or_address_that_somebody_has_in_any_case_or_width(anyone):
    body = registration()
    anyone.post("/register", body)
    same_name = registration(username=body["username"].upper())
    wide_name = registration(username="ｐ" + body["username"][1:])
    same_address = registration(email=body["email"].upper())
    assert refusal(anyone.post("/register", same_name)) == (409, "username_taken")
    assert refusal(anyone.post("/register", wide_name)) == (409, "username_taken")
    assert refusal(anyone.post("/register", same_address)) == (409, "email_taken")


@pytest.mark.parametrize("field", ["username", "email"])
def test_of_one_name_at_once_succeeds_once_and_says_why_else(app, anyone, field):
    body = registration()
    bodies = [registration(**{field: body[field]}) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda one: anyone.post("/register", one), bodies))
    codes = [answer.json.get("code") for answer in answers if answer.status_code == 409]
    assert codes == [f"{field}_taken"] * 5
    [made] = [answer.json for answer in answers if answer.status_code == 201]
    assert len(events_of(app, made["id"])) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("username", "ab"),
        ("username", "a" * 33),
        ("username", "two words"),
        ("username", "a@b.example"),
        ("username", "\u0301abc"),
        ("username", "abc\u3164"),
        ("username", "abc\ud800"),
        ("username", "abc\x00"),
        ("username", 123),
        ("username", None),
        ("email", "nobody"),
        ("email", "a@b"),
        ("email", "a@b.example\n"),
        ("email", "a..b@c.example"),
        ("email", "a@-c.example"),
        ("email", "a@1.2.3.4"),
        ("email", f"{'a' * 65}@b.example"),
        ("email", f"a@{'b.' * 130}example"),
        ("email", "用户@例子.公司"),
        ("password", "short12"),
        ("password", "p" * 129),
        ("password", "password1"),
        ("password", "PassWord1"),
        ("password", "88888888"),
        ("password", 12345678),
        ("phone", "call me"),
        ("phone", "110"),
        ("locale", "fr"),
        ("role", "admin"),
        ("active", False),
        ("email_verified", True),
    ],
)
def test_names_the_field_that_is_wrong_and_never_repeats_its_value(anyone, field, value):
    answer = anyone.post("/register", registration(**{field: value}))
    assert wrong_fields(answer) == [field]
    assert field == "role" or not isinstance(value, str) or f'"{value}"' not in answer.text


@pytest.mark.parametrize("name", ["小明明", "Мария", "हिन्दी", "O_o.-9", "Ünï", "a" * 32, "ａｂｃ"])
def test_takes_letters_of_any_script(anyone, name):
    person = anyone.register(username=name)
    assert person.user["username"] == name
    assert person.sign_in().user["id"] == person.user["id"]


def test_takes_the_longest_password_and_all_of_it(anyone):
    person = anyone.register(password="密" * 127 + "码")
    person.sign_in("密" * 127 + "码")
    wrong = anyone.post("/login", {"username": person.user["username"], "password": "密" * 128})
    assert refusal(wrong) == (401, "invalid_credentials")


def test_takes_a_constant_number_of_statements(anyone, statements):
    anyone.register()
    assert len(statements) == 2


def test_is_limited_per_address_when_the_settings_say_so(make_user_app, anyone):
    limited = type(anyone)(make_user_app(limit_register_per_address=2))
    answers = [limited.post("/register", registration()) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201, 201, 429]
    assert refusal(answers[2]) == (429, "rate_limited")
    assert 0 < int(answers[2].headers["Retry-After"]) <= 60
