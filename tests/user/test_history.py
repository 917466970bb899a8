"""The user service's events for those who rebuild from them."""

import pytest

from chassis.events import Envelope
from chassis.tokens import sign_service_token
from tests.contracts.event_schemas import problems
from tests.user.conftest import NOTIFICATION_KEY, ORDER_KEY
from tests.user.people import refusal


@pytest.fixture
def ask(app):
    """Return what asks as the notification service."""

    def get(query="", *, issuer="notification-service", key=NOTIFICATION_KEY, scope="events.read"):
        token = sign_service_token(key, issuer=issuer, audience="user-service", scope=scope)
        headers = {"Authorization": f"Bearer {token}"}
        return app.test_client().get(f"/internal/v1/events{query}", headers=headers)

    return get


def test_every_event_is_told_in_pages_as_it_is_sent(ask, anyone):
    users = [anyone.register().user["id"] for _ in range(3)]
    items, after = [], 0
    while page := ask(f"?after={after}&limit=2").json["items"]:
        assert len(page) <= 2
        items += page
        after = page[-1]["sequence"]
    assert [one["sequence"] for one in items] == sorted({one["sequence"] for one in items})
    registered = [one for one in items if one["type"] == "user.registered"]
    assert [one["data"]["user_id"] for one in registered][-3:] == users
    assert all(problems(one) == [] for one in items)
    assert Envelope.model_validate(items[-1]).source == "user-service"


def test_the_events_of_one_user_are_told(ask, anyone):
    first, _ = anyone.register().user["id"], anyone.register()
    assert [one["subject"] for one in ask(f"?subject={first}").json["items"]] == [str(first)]
    assert ask("?subject=nobody").json["items"] == []


def test_only_who_may_read_events_does(ask):
    assert refusal(ask(scope="users.read")) == (401, "unauthorized")
    assert refusal(ask(issuer="order-service", key=ORDER_KEY)) == (401, "unauthorized")
    assert refusal(ask("?limit=501")) == (422, "validation_error")
