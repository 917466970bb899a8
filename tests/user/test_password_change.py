"""Somebody changes their password."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.user.people import PASSWORD, is_signed_out_soon, refusal, wrong_fields

NEW = "ein ganz neues Wort"


def change(person, current=PASSWORD, new=NEW):
    return person.put("/profile/password", {"current_password": current, "new_password": new})


def test_the_new_one_counts_and_the_old_one_no_more(customer):
    answer = change(customer)
    assert (answer.status_code, answer.data) == (204, b"")
    customer.sign_in(NEW)
    old = customer.post("/login", {"username": customer.user["username"], "password": PASSWORD})
    assert refusal(old) == (401, "invalid_credentials")


def test_ends_the_other_sessions_only(customer, anyone):
    other, somebody = customer.sign_in(), anyone.register().sign_in()
    assert change(customer).status_code == 204
    assert is_signed_out_soon(other)
    assert refusal(other.refresh()) == (401, "invalid_token")
    assert customer.get("/profile").status_code == 200
    assert customer.refresh().status_code == 200
    assert somebody.get("/profile").status_code == 200


def test_a_wrong_one_changes_nothing(customer):
    other = customer.sign_in()
    assert refusal(change(customer, current="not the password")) == (403, "wrong_password")
    customer.sign_in()
    assert other.refresh().status_code == 200


def test_guessing_the_current_one_is_limited_as_signing_in_is(customer):
    codes = [refusal(change(customer, current=f"guess {n}"))[0] for n in range(6)]
    assert codes == [403] * 5 + [429]
    assert refusal(change(customer)) == (429, "rate_limited")


def test_of_two_at_once_one_counts(customer):
    people = [customer, customer.sign_in()]
    words = ["first new password", "second new password"]
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda pair: change(pair[0], new=pair[1]), zip(people, words, strict=True)))
    good = [word for answer, word in zip(answers, words, strict=True) if answer.status_code == 204]
    assert sorted(answer.status_code for answer in answers)[0] == 204
    assert len(good) == 1
    customer.sign_in(good[0])


def test_who_signs_in_with_the_old_one_at_that_moment_is_out_or_refused(customer):
    credentials = {"username": customer.user["username"], "password": PASSWORD}
    with ThreadPoolExecutor(6) as pool:
        logins = [pool.submit(customer.post, "/login", credentials) for _ in range(5)]
        assert change(customer).status_code == 204
        answers = [login.result() for login in logins]
    for answer in answers:
        if answer.status_code == 200:
            again = customer.post("/token/refresh", {"refresh_token": answer.json["refresh_token"]})
            assert refusal(again) == (401, "invalid_token")
        else:
            assert refusal(answer) == (401, "invalid_credentials")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"new_password": NEW}, "current_password"),
        ({"current_password": PASSWORD}, "new_password"),
        ({"current_password": PASSWORD, "new_password": "short12"}, "new_password"),
        ({"current_password": PASSWORD, "new_password": "password1"}, "new_password"),
        ({"current_password": 1, "new_password": NEW}, "current_password"),
    ],
)
def test_names_the_field_that_is_wrong(customer, body, field):
    assert wrong_fields(customer.put("/profile/password", body)) == [field]


def test_is_for_who_is_signed_in(anyone):
    assert refusal(change(anyone)) == (401, "unauthorized")


def test_takes_a_constant_number_of_statements(customer, statements):
    change(customer)
    assert len(statements) == 4
