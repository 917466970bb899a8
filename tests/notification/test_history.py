"""Looking at what was sent, and sending a failed one again."""

import uuid

import pytest

HISTORY = "/api/v1/notifications/history"
FIELDS = set(
    "id user_id channel recipient template subject status attempts last_error event_id event_type created_at"
    " sent_at".split()
)


@pytest.fixture
def some(deliver, users):
    """Make notifications of two users."""
    users.users[43] = {**users.users[42], "user_id": 43, "email": "other@example.com", "phone": None}
    deliver("order.created")
    deliver("order.paid")
    deliver("order.paid", user_id=43)


def items(client, headers, **query):
    answer = client.get(HISTORY, query_string=query, headers=headers)
    assert answer.status_code == 200, answer.get_json()
    return answer.get_json()["items"]


@pytest.mark.usefixtures("some")
class TestHistory:
    def test_shows_ones_own_newest_first(self, client, bearer):
        shown = items(client, bearer(42))
        assert [n["user_id"] for n in shown] == [42] * 4
        assert [n["event_type"] for n in shown] == ["order.paid"] * 2 + ["order.created"] * 2
        assert set(shown[0]) == FIELDS

    def test_shows_an_administrator_everything(self, client, admin):
        assert len(items(client, admin)) == 5
        assert len(items(client, admin, user_id=43)) == 1

    def test_of_another_user_is_forbidden(self, client, bearer):
        answer = client.get(f"{HISTORY}?user_id=43", headers=bearer(42))
        assert (answer.status_code, answer.get_json()["code"]) == (403, "forbidden")
        assert len(items(client, bearer(42), user_id=42)) == 4

    def test_is_filtered(self, client, admin):
        assert {n["channel"] for n in items(client, admin, channel="sms")} == {"sms"}
        assert len(items(client, admin, event_type="order.paid")) == 3
        assert items(client, admin, status="sent") == []
        assert len(items(client, admin, status="queued", channel="email", user_id=42)) == 2

    def test_comes_in_pages(self, client, admin):
        whole = [n["id"] for n in items(client, admin)]
        seen, cursor = [], None
        while True:
            page = client.get(HISTORY, query_string={"limit": 2, "cursor": cursor}, headers=admin).get_json()
            seen += [n["id"] for n in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert seen == whole

    @pytest.mark.parametrize(
        ("query", "status"),
        [
            ("channel=fax", 422),
            ("status=lost", 422),
            ("user_id=x", 422),
            ("limit=101", 422),
            ("cursor=x", 400),
        ],
    )
    def test_refuses_a_wrong_parameter(self, client, admin, query, status):
        assert client.get(f"{HISTORY}?{query}", headers=admin).status_code == status

    def test_needs_somebody_signed_in(self, client):
        assert client.get(HISTORY).status_code == 401


class TestRetry:
    def retry(self, client, headers, notification_id):
        return client.post(f"/api/v1/notifications/{notification_id}/retry", headers=headers)

    def test_sends_a_failed_one_again(self, client, admin, deliver, box, sink):
        deliver("user.registered")
        sink.refuse_recipient = "550 no such mailbox"
        box.send()
        (row,) = box.rows(status="failed")
        answer = self.retry(client, admin, row.id)
        assert answer.status_code == 202
        assert (answer.get_json()["id"], answer.get_json()["status"]) == (str(row.id), "queued")
        sink.refuse_recipient = None
        box.send()
        (row,) = box.rows()
        assert (row.status, row.attempts, row.last_error) == ("sent", 2, None)
        assert len(sink.mails) == 1

    def test_refuses_one_that_has_not_failed(self, client, admin, deliver, box):
        deliver("user.registered")
        answer = self.retry(client, admin, box.rows()[0].id)
        assert (answer.status_code, answer.get_json()["code"]) == (409, "notification_not_failed")

    def test_does_not_know_every_id(self, client, admin):
        assert self.retry(client, admin, uuid.uuid4()).status_code == 404
        assert self.retry(client, admin, "abc").status_code == 404

    def test_is_for_administrators(self, client, bearer, deliver, box):
        deliver("user.registered")
        assert self.retry(client, bearer(), box.rows()[0].id).status_code == 403
