"""Other services ask about users; nobody else may."""

import pytest
from sqlalchemy import text

from tests.user.conftest import ORDER_KEY
from tests.user.people import refusal


@pytest.fixture
def ask(app):
    return app.test_client()


def test_a_service_sees_what_it_needs_of_a_user(ask, anyone, service):
    user = anyone.register(phone="13800138000").user
    answer = ask.get(f"/internal/v1/users/{user['id']}", headers=service())
    assert answer.status_code == 200
    assert answer.json == {
        "user_id": user["id"],
        "username": user["username"],
        "email": user["email"],
        "phone": "+8613800138000",
        "locale": "zh-CN",
        "role": "customer",
        "active": True,
        "email_verified": False,
    }


@pytest.mark.parametrize("user_id", ["999999999", "0", "-1", "abc", "9" * 30])
def test_an_unknown_user_is_not_found(ask, service, user_id):
    assert refusal(ask.get(f"/internal/v1/users/{user_id}", headers=service())) == (404, "not_found")


def test_another_service_may_ask_as_often_as_it_needs(make_user_app, service):
    client = make_user_app(limit_read_per_address=1).test_client()
    asked = [client.get("/internal/v1/users/999999999", headers=service()) for _ in range(3)]
    assert [refusal(answer) for answer in asked] == [(404, "not_found")] * 3
    assert [client.get("/.well-known/jwks.json").status_code for _ in range(2)] == [200, 429]


def test_the_active_administrators_are_listed(app, ask, anyone, service, statements):
    admins = [anyone.register().user for _ in range(2)]
    with app.app_context():
        session = app.extensions["sqlalchemy"].session
        session.execute(
            text("UPDATE users SET role = 'admin', active = (id = :id) WHERE id IN (:id, :other)"),
            {"id": admins[0]["id"], "other": admins[1]["id"]},
        )
        session.commit()
    statements.clear()
    answer = ask.get("/internal/v1/admins", headers=service())
    assert len(statements) == 1
    listed = {item["id"]: item for item in answer.json["items"]}
    assert listed[admins[0]["id"]] == {
        "id": admins[0]["id"],
        "user_id": admins[0]["id"],
        "email": admins[0]["email"],
        "locale": "zh-CN",
    }
    assert admins[1]["id"] not in listed
    assert answer.json["next_cursor"] is None


@pytest.mark.parametrize(
    "claims",
    [
        {"scope": "users.write"},
        {"scope": "tokens.issue"},
        {"issuer": "product-service"},
        {"issuer": "order-service"},
        {"issuer": "order-service", "key": ORDER_KEY},
        {"key": "k" * 32},
        {"audience": "order-service"},
    ],
)
def test_a_token_for_something_else_is_refused(ask, service, claims):
    for path in ("/internal/v1/users/1", "/internal/v1/admins"):
        assert refusal(ask.get(path, headers=service(**claims))) == (401, "unauthorized")


def test_a_users_token_is_refused(ask, customer):
    headers = {"Authorization": f"Bearer {customer.access_token}"}
    for method, path in [
        ("GET", "/internal/v1/users/1"),
        ("GET", "/internal/v1/admins"),
        ("POST", "/internal/v1/users/1/email-token"),
    ]:
        answer = ask.open(path, method=method, headers=headers)
        assert refusal(answer) == (401, "unauthorized")
