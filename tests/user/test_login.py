"""Somebody signs in."""

import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest
from sqlalchemy import text

from tests.user.people import PASSWORD, Person, refusal, wrong_fields
from user_service.services.hashing import Hasher


def attempt(person, name, password="not the password"):
    return person.post("/login", {"username": name, "password": password})


def disable(app, user_id):
    with app.app_context():
        session = app.extensions["sqlalchemy"].session
        session.execute(text("UPDATE users SET active = false WHERE id = :id"), {"id": user_id})
        session.commit()


@pytest.mark.parametrize("spelt", [str, str.upper])
@pytest.mark.parametrize("by", ["username", "email"])
def test_works_by_name_or_address_in_any_case(anyone, by, spelt):
    person = anyone.register()
    answer = attempt(anyone, spelt(person.user[by]), PASSWORD)
    assert answer.status_code == 200
    assert answer.json["user"] == person.user
    assert (answer.json["token_type"], answer.json["expires_in"]) == ("Bearer", 900)


def test_gives_a_token_that_says_who_and_is_signed_by_a_published_key(app, customer):
    keys = app.test_client().get("/.well-known/jwks.json").json["keys"]
    kid = jwt.get_unverified_header(customer.access_token)["kid"]
    [key] = [jwt.PyJWK(key) for key in keys if key["kid"] == kid]
    claims = jwt.decode(customer.access_token, key, ["EdDSA"], audience="ecommerce", issuer="ecommerce")
    assert (claims["sub"], claims["role"]) == (str(customer.user["id"]), "customer")
    assert claims["exp"] - claims["iat"] == 900
    assert set(claims) == {"iss", "aud", "sub", "sid", "role", "iat", "exp"}


def test_refuses_a_wrong_password_and_an_unknown_name_alike(anyone):
    person = anyone.register()
    wrong, unknown = attempt(anyone, person.user["username"]), attempt(anyone, "nobody-at-all")
    assert refusal(wrong) == refusal(unknown) == (401, "invalid_credentials")
    assert wrong.json | {"request_id": ""} == unknown.json | {"request_id": ""}
    assert set(wrong.headers.keys()) == set(unknown.headers.keys())


def test_takes_as_long_and_as_many_statements_for_an_unknown_name(make_user_app, anyone, statements):
    app = anyone.app
    tools = app.extensions["tools"]
    real = type(tools)(Hasher(), tools.attempts, tools.signer, tools.sessions)
    app.extensions["tools"] = real
    try:
        people = [anyone.register() for _ in range(3)]
        seconds = {}
        for kind, names in {
            "known": [person.user["username"] for person in people],
            "unknown": [f"nobody-{number}" for number in range(3)],
        }.items():
            statements.clear()
            started = []
            for name in names:
                begin = time.perf_counter()
                attempt(anyone, name)
                started.append(time.perf_counter() - begin)
            seconds[kind] = statistics.median(started)
            assert len(statements) == 3
    finally:
        app.extensions["tools"] = tools
    assert 0.5 < seconds["known"] / seconds["unknown"] < 2


def test_tells_a_disabled_account_only_to_who_knows_the_password(app, anyone):
    person = anyone.register()
    disable(app, person.user["id"])
    assert refusal(attempt(anyone, person.user["username"])) == (401, "invalid_credentials")
    assert refusal(attempt(anyone, person.user["username"], PASSWORD)) == (403, "account_disabled")


def test_waits_after_five_failures_by_either_name_and_keeps_nobody_else_out(anyone):
    person, other = anyone.register(), anyone.register()
    names = [person.user["username"], person.user["email"].upper()]
    for number in range(5):
        assert refusal(attempt(anyone, names[number % 2])) == (401, "invalid_credentials")
    locked = attempt(anyone, names[0], PASSWORD)
    assert refusal(locked) == (429, "rate_limited")
    assert 0 < int(locked.headers["Retry-After"]) <= 900
    other.sign_in()


def test_lets_the_owner_in_when_the_window_is_over(app, anyone):
    person = anyone.register()
    for _ in range(6):
        attempt(anyone, person.user["username"])
    redis = app.extensions["edge"].redis
    [tries] = redis.scan_iter("limit:tries:*")
    left = redis.ttl(tries)
    attempt(anyone, person.user["username"])
    assert redis.ttl(tries) <= left <= 900
    assert redis.scard(tries) == 5
    redis.delete(tries)
    person.sign_in()


def test_counts_failures_of_an_unknown_name_too(anyone):
    codes = [refusal(attempt(anyone, "somebody-unknown"))[0] for _ in range(6)]
    assert codes == [401] * 5 + [429]


def test_counts_failures_only(anyone):
    person = anyone.register()
    for _ in range(3):
        for _ in range(3):
            attempt(anyone, person.user["username"])
        person.sign_in()


def test_never_lets_parallel_tries_pass_the_limit(anyone):
    person = anyone.register()
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: attempt(anyone, person.user["username"]), range(10)))
    assert sorted(answer.status_code for answer in answers) == [401] * 5 + [429] * 5


def test_lets_one_person_sign_in_many_times_at_once(anyone):
    person = anyone.register()
    with ThreadPoolExecutor(10) as pool:
        people = list(pool.map(lambda _: person.sign_in(), range(10)))
    assert len({one.refresh_token for one in people}) == 10


def test_limits_of_zero_are_off(make_user_app):
    anyone = Person(make_user_app(limit_login_per_account=0))
    person = anyone.register()
    assert [attempt(anyone, person.user["username"]).status_code for _ in range(7)] == [401] * 7


def test_is_limited_per_address_when_the_settings_say_so(make_user_app):
    anyone = Person(make_user_app(limit_login_per_address=3))
    codes = [attempt(anyone, f"nobody-{number}").status_code for number in range(4)]
    assert codes == [401, 401, 401, 429]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"username": "a"}, "password"),
        ({"password": "b"}, "username"),
        ({"username": 1, "password": "b"}, "username"),
        ({"username": "a", "password": ["b"]}, "password"),
        ({"username": "a", "password": "\ud800"}, "password"),
        ({"username": "a", "password": "b", "remember": True}, "remember"),
    ],
)
def test_names_the_field_that_is_wrong(anyone, body, field):
    assert wrong_fields(anyone.post("/login", body)) == [field]
