"""A mail's token verifies the address it was sent to, once."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.user.people import refusal, wrong_fields
from user_service.services.mail_tokens import purge_tokens


def test_verifies_the_address(customer, issue):
    issued = issue(customer.user["id"])
    assert issued.status_code == 201
    assert issued.json["email"] == customer.user["email"]
    answer = customer.post("/email/verify", {"token": issued.json["token"]})
    assert (answer.status_code, answer.data) == (204, b"")
    assert customer.get("/profile").json["email_verified"] is True


def test_counts_once_also_at_once(customer, issue):
    token = issue(customer.user["id"]).json["token"]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: customer.post("/email/verify", {"token": token}), range(4)))
    assert sorted(answer.status_code for answer in answers) == [204, 400, 400, 400]
    assert {refusal(answer) for answer in answers if answer.status_code != 204} == {(400, "invalid_token")}


def test_each_mail_has_its_own_and_each_works(customer, issue):
    first, second = (issue(customer.user["id"]).json["token"] for _ in range(2))
    assert first != second
    assert customer.post("/email/verify", {"token": first}).status_code == 204
    assert refusal(issue(customer.user["id"])) == (409, "email_verified")


def test_is_kept_as_a_hash_only(customer, issue, execute):
    token = issue(customer.user["id"]).json["token"]
    kept = str(execute("SELECT * FROM mail_tokens WHERE user_id = :id", id=customer.user["id"]))
    assert token not in kept
    assert "tok" not in str(
        execute("SELECT data FROM events WHERE subject = :id", id=str(customer.user["id"]))
    )


def test_of_an_address_that_changed_meanwhile_verifies_nothing(customer, issue, execute):
    token = issue(customer.user["id"]).json["token"]
    execute("UPDATE users SET email_folded = 'new@example.com' WHERE id = :id", id=customer.user["id"])
    assert refusal(customer.post("/email/verify", {"token": token})) == (400, "invalid_token")
    assert customer.get("/profile").json["email_verified"] is False


def test_expires_and_is_purged(app, customer, issue, execute):
    token = issue(customer.user["id"]).json["token"]
    execute(
        "UPDATE mail_tokens SET expires_at = now() - interval '1 s' WHERE user_id = :id",
        id=customer.user["id"],
    )
    assert refusal(customer.post("/email/verify", {"token": token})) == (400, "invalid_token")
    with app.app_context():
        purge_tokens(app.extensions["sqlalchemy"].session)
    assert execute("SELECT 1 FROM mail_tokens WHERE user_id = :id", id=customer.user["id"]) == []


@pytest.mark.parametrize("token", ["", "unknown", "ü" * 100])
def test_that_nobody_gave_out_is_refused(anyone, token):
    assert refusal(anyone.post("/email/verify", {"token": token})) == (400, "invalid_token")


def test_must_be_given(anyone):
    assert wrong_fields(anyone.post("/email/verify", {})) == ["token"]


def test_is_made_for_known_users_and_purposes_only(issue):
    assert refusal(issue(999_999_999)) == (404, "not_found")
    assert wrong_fields(issue(1, {"purpose": "other"})) == ["purpose"]
