"""What another service may ask about its events: which became a mail, and to forget those that did not."""

import uuid

import pytest
from sqlalchemy import text

from chassis.tokens import sign_service_token
from notification_service.models import db
from tests.notification.conftest import ORDER_KEY


@pytest.fixture
def ask(client):
    """Return what calls as the order service."""

    def call(what: str, event_ids, *, scope: str | None = None, key: str = ORDER_KEY):
        scope = scope or {"lookup": "notifications.read", "forget": "notifications.repair"}[what]
        token = sign_service_token(key, issuer="order-service", audience="notification-service", scope=scope)
        return client.post(
            f"/internal/v1/notifications/{what}",
            json={"event_ids": [str(one) for one in event_ids]},
            headers={"Authorization": f"Bearer {token}"},
        )

    return call


def test_the_events_that_became_a_mail_are_told(ask, deliver):
    paid, created = deliver("order.paid"), deliver("order.created")
    answer = ask("lookup", [paid.id, created.id, uuid.uuid4()])
    assert answer.status_code == 200
    assert sorted(answer.get_json()["event_ids"]) == sorted([str(paid.id), str(created.id)])


def test_a_mail_counts_whatever_became_of_it(ask, app, deliver, box):
    paid = deliver("order.paid")
    for status in ("failed", "suppressed", "sent", "sending"):
        with app.app_context(), db.engine.begin() as connection:
            connection.execute(text("UPDATE notifications SET status = :s"), {"s": status})
        assert ask("lookup", [paid.id]).get_json()["event_ids"] == [str(paid.id)]


def test_a_text_alone_is_no_mail(ask, app, deliver):
    paid = deliver("order.paid")
    with app.app_context(), db.engine.begin() as connection:
        connection.execute(text("DELETE FROM notifications WHERE channel = 'email'"))
    assert ask("lookup", [paid.id]).get_json()["event_ids"] == []


def test_an_event_without_its_mail_counts_again_once_it_is_forgotten(ask, app, deliver, box):
    lost, kept = deliver("order.paid"), deliver("order.shipped")
    with app.app_context(), db.engine.begin() as connection:
        connection.execute(text("DELETE FROM notifications WHERE event_id = :e"), {"e": lost.id})
    deliver("order.paid", lost)
    assert box.rows(event_id=lost.id) == []
    assert ask("forget", [lost.id, kept.id]).status_code == 204
    deliver("order.paid", lost)
    deliver("order.shipped", kept)
    assert len(box.rows(event_id=lost.id, channel="email")) == 1
    assert len(box.rows(event_id=kept.id, channel="email")) == 1
    with app.app_context():
        assert db.session.scalar(text("SELECT count(*) FROM inbox")) == 2


def test_each_needs_its_scope_and_the_pair_s_own_key(ask):
    assert ask("forget", [], scope="notifications.read").status_code == 401
    assert ask("lookup", [], scope="users.read").status_code == 401
    assert ask("lookup", [], key="x" * 40).status_code == 401


def test_more_than_500_are_refused(ask):
    assert ask("lookup", [uuid.uuid4()] * 501).status_code == 422
    assert ask("lookup", ["no-id"]).status_code == 422
