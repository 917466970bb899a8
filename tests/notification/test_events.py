"""What an event becomes: one notification per channel and recipient, in the recipient's language."""

from types import SimpleNamespace

import pytest

from chassis.context import bind_context
from chassis.errors import DependencyAway
from chassis.events import Envelope
from notification_service.errors import UnknownUser
from notification_service.models import Person, db
from tests.contracts.event_schemas import examples
from tests.notification.conftest import BUYER

ORDER_EVENTS = ["order.created", "order.paid", "order.shipped", "order.cancelled", "order.refunded"]


def facts(rows):
    """Return channel, recipient and status of notifications."""
    return sorted((row.channel, row.recipient, row.status) for row in rows)


def person(app, user_id=42):
    """Return the own copy of a user."""
    with app.app_context():
        return db.session.get(Person, user_id)


@pytest.fixture
def transactions(app):
    """Return what counts the transactions that are open in the database."""
    with app.app_context():
        engine = db.engine
    seen = []

    def look():
        others = (
            "datname = current_database() AND backend_type = 'client backend' "
            "AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"
        )
        with engine.connect() as connection:
            seen.append(connection.scalar(db.text(f"SELECT count(*) FROM pg_stat_activity WHERE {others}")))

    return SimpleNamespace(look=look, seen=seen)


def test_a_registration_becomes_a_welcome_mail(deliver, box):
    event = deliver("user.registered")
    (row,) = box.rows()
    assert (row.channel, row.recipient, row.template) == ("email", "xiaoming@example.com", "welcome")
    assert (row.user_id, row.event_id, row.event_type) == (42, event.id, "user.registered")
    assert row.subject == "欢迎来到测试商城"


@pytest.mark.parametrize("event_type", ORDER_EVENTS)
def test_an_order_event_goes_every_way_that_leads_to_the_buyer(deliver, box, event_type):
    deliver(event_type)
    assert facts(box.rows()) == [
        ("email", "xiaoming@example.com", "queued"),
        ("sms", "+8613800138000", "queued"),
    ]


@pytest.mark.parametrize("phone", [None, "", "13800138000"])
def test_no_text_goes_to_a_phone_that_none_can_reach(deliver, box, users, phone):
    users.users[42] = {**BUYER, "phone": phone}
    deliver("order.paid")
    assert [row.channel for row in box.rows()] == ["email"]


def test_a_completed_order_causes_no_mail(app):
    order = next(c for c in app.extensions["worker"].consumers if c.queue == "order.events")
    assert "order.completed" not in order.handlers


def test_an_event_delivered_twice_is_one_notification(deliver, box):
    event = deliver("order.paid")
    deliver("order.paid", event)
    assert len(box.rows(channel="email")) == 1


def test_an_event_whose_inbox_row_was_lost_is_still_one_notification(app, deliver, box):
    event = deliver("order.paid")
    with app.app_context(), db.engine.begin() as connection:
        connection.execute(db.text("DELETE FROM inbox"))
    deliver("order.paid", event)
    assert len(box.rows()) == 2  # the mail and the text


def test_the_request_that_caused_an_event_is_known_to_its_notification(app, box):
    handler = app.extensions["worker"].consumers[0].handlers["user.registered"]
    with app.app_context(), bind_context(request_id="request-7", traceparent=None):
        handler(db.session, Envelope.model_validate(examples("user.registered")[0]))
        db.session.commit()
    assert box.rows()[0].request_id == "request-7"


class TestPeople:
    def test_are_known_by_their_events(self, deliver, users, app):
        deliver("user.registered")
        deliver("order.paid")
        assert users.requests == []
        assert person(app).username == "小明"

    def test_whose_events_have_not_come_yet_are_asked_for(self, deliver, users, box):
        deliver("order.paid")
        deliver("order.shipped")
        assert [r.path for r in users.requests] == ["/internal/v1/users/42"]
        assert box.rows()[0].recipient == "xiaoming@example.com"

    def test_that_the_user_service_does_not_know_are_the_events_fault(self, deliver, users, box):
        users.users.clear()
        with pytest.raises(UnknownUser):
            deliver("order.paid")
        assert box.rows() == []

    @pytest.mark.parametrize("status", [500, 503, 401])
    def test_can_not_be_had_while_the_user_service_is_away(self, deliver, users, box, status):
        users.fails_with = status
        with pytest.raises(DependencyAway):
            deliver("order.paid")
        assert box.rows() == []
        users.fails_with = None
        deliver("order.paid")
        assert len(box.rows(channel="email")) == 1

    def test_are_asked_for_outside_any_transaction(self, deliver, users, box, transactions):
        users.meanwhile = transactions.look
        for user_id, name in enumerate(
            ("order.paid", "user.recovery.requested", "user.email.change.requested")
        ):
            users.users[user_id] = {**BUYER, "user_id": user_id}
            deliver(name, user_id=user_id)
        assert transactions.seen == [0, 0, 0]
        assert len(box.rows(channel="email")) == 4

    def test_change_with_their_events(self, deliver, app):
        deliver("user.registered", sequence=1)
        deliver("user.updated", sequence=2, locale="en", email="new@example.com")
        assert (person(app).locale, person(app).email) == ("en", "new@example.com")

    def test_are_never_set_back_by_an_older_event(self, deliver, app, box):
        deliver("user.updated", sequence=5, email="new@example.com", locale="en")
        deliver("user.updated", sequence=4, email="old@example.com")
        deliver("user.registered", sequence=3)
        assert (person(app).email, person(app).sequence) == ("new@example.com", 5)
        deliver("order.paid")
        assert box.rows(template="order_paid")[0].recipient == "new@example.com"

    def test_that_were_asked_for_give_way_to_any_event(self, deliver, app):
        deliver("order.paid")
        deliver("user.updated", sequence=1, email="new@example.com")
        assert person(app).email == "new@example.com"


class TestPreferences:
    OFF = {"email": False, "sms": False, "push": False}  # noqa: RUF012

    @pytest.fixture
    def off(self, client, bearer):
        client.put("/api/v1/notifications/preferences", json=self.OFF, headers=bearer())

    @pytest.mark.usefixtures("off")
    @pytest.mark.parametrize("event_type", ["order.created", "order.shipped", "order.cancelled"])
    def test_hold_back_what_is_optional(self, deliver, box, event_type):
        deliver(event_type)
        assert [status for _, _, status in facts(box.rows())] == ["suppressed", "suppressed"]

    @pytest.mark.usefixtures("off")
    @pytest.mark.parametrize("event_type", ["order.paid", "order.refunded"])
    def test_never_hold_back_a_receipt(self, deliver, box, event_type):
        deliver(event_type)
        assert [status for _, _, status in facts(box.rows())] == ["queued", "suppressed"]

    @pytest.mark.usefixtures("off")
    def test_never_hold_back_the_welcome(self, deliver, box):
        deliver("user.registered")
        assert box.rows()[0].status == "queued"

    @pytest.mark.usefixtures("off", "sink")
    def test_leave_nothing_to_be_sent(self, deliver, box, sink):
        deliver("order.created")
        box.send()
        assert sink.mails == []


class TestLowStock:
    @pytest.fixture(autouse=True)
    def _admins(self, users):
        for user_id, locale in ((1, "en"), (2, "zh-CN")):
            admin = {
                "user_id": user_id,
                "email": f"admin{user_id}@example.com",
                "role": "admin",
                "locale": locale,
            }
            users.users[user_id] = {**BUYER, **admin}
        users.users[3] = {
            **BUYER,
            "user_id": 3,
            "email": "gone@example.com",
            "role": "admin",
            "active": False,
        }

    def test_is_told_to_every_active_administrator(self, deliver, box):
        deliver("product.stock.updated", previous_stock=6, stock=5, low_stock_threshold=5)
        rows = box.rows()
        assert [row.recipient for row in rows] == ["admin1@example.com", "admin2@example.com"]
        assert [row.subject for row in rows] == [
            "Low stock: TEA-0007 (5 left)",
            "库存预警：TEA-0007 仅剩 5 件",
        ]

    def test_is_told_to_those_that_were_asked_for_outside_any_transaction(self, deliver, users, transactions):
        users.meanwhile = transactions.look
        deliver("product.stock.updated", previous_stock=6, stock=5, low_stock_threshold=5)
        assert transactions.seen == [0]

    @pytest.mark.parametrize(("before", "after"), [(5, 4), (5, 5), (6, 6), (10, 6), (3, 8), (4, 0)])
    def test_is_told_only_by_the_change_that_crosses_the_level(self, deliver, box, users, before, after):
        deliver("product.stock.updated", previous_stock=before, stock=after, low_stock_threshold=5)
        assert box.rows() == []
        assert users.requests == []

    def test_is_told_once(self, deliver, box):
        event = deliver("product.stock.updated", previous_stock=6, stock=0)
        deliver("product.stock.updated", event)
        assert len(box.rows()) == 2

    def test_waits_for_a_user_service_that_is_away(self, deliver, users, box):
        users.fails_with = 503
        with pytest.raises(DependencyAway):
            deliver("product.stock.updated", previous_stock=6, stock=5)
        assert box.rows() == []
