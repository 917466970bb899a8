"""Calls to the user service."""

import json

import pytest

from chassis.context import bind_context
from chassis.errors import DependencyAway
from notification_service.clients import UserService
from tests.notification.stubs import serve


@pytest.fixture
def client(settings):
    return UserService(settings)


def test_a_user_is_found(client):
    assert client.find_user(42).username == "小明"


def test_a_user_that_is_not_there_is_none(client):
    assert client.find_user(1) is None


def test_administrators_are_listed(client, users):
    users.users[1] = {**users.users[42], "user_id": 1, "role": "admin"}
    assert [admin.user_id for admin in client.list_admins()] == [1]


def test_administrators_may_be_named_by_id(settings):
    answer = {"items": [{"id": 1, "email": "a@example.com", "locale": "en"}], "next_cursor": None}
    with serve(lambda request: (200, answer)) as url:
        client = UserService(settings.model_copy(update={"user_service_url": url}))
        assert [admin.user_id for admin in client.list_admins()] == [1]


def test_a_token_is_issued(client, users):
    issued = client.make_email_token(42, "recovery")
    assert (issued.token, issued.email) == (users.tokens[0], "xiaoming@example.com")
    assert json.loads(users.requests[0].body) == {"purpose": "recovery"}
    assert issued.token not in repr(issued)
    assert client.make_email_token(1, "recovery") is None


def test_the_request_s_id_goes_along(client, users):
    with bind_context(request_id="request-7", traceparent=None):
        client.find_user(42)
    assert users.requests[0].headers["X-Request-ID"] == "request-7"
    assert users.requests[0].headers["traceparent"].startswith("00-")


@pytest.mark.parametrize("status", [301, 400, 401, 403, 429, 500, 503])
def test_any_other_answer_means_that_it_is_away(client, users, status):
    users.fails_with = status
    with pytest.raises(DependencyAway):
        client.find_user(42)


@pytest.mark.parametrize("body", [{}, [], {"user_id": "x"}, None])
def test_an_answer_that_makes_no_sense_means_that_it_is_away(settings, body):
    with serve(lambda request: (200, body)) as url:
        client = UserService(settings.model_copy(update={"user_service_url": url}))
        with pytest.raises(DependencyAway):
            client.find_user(42)


def test_nobody_at_its_address_means_that_it_is_away(settings):
    client = UserService(settings.model_copy(update={"user_service_url": "http://127.0.0.1:1"}))
    with pytest.raises(DependencyAway):
        client.find_user(42)


def test_a_connection_that_was_closed_meanwhile_is_opened_again(settings, users):
    with serve(users.answer) as url:
        client = UserService(settings.model_copy(update={"user_service_url": url}))
        assert client.find_user(42)
        pool = client._pool.connection_from_url(url)
        kept = pool.pool.get()
        kept.sock.shutdown(2)
        pool.pool.put(kept)
        assert client.find_user(42)
