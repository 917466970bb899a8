"""Who forgot the password gets a mail whose token is fetched at the moment of sending."""

import json

from tests.notification.conftest import BUYER

RESET = "https://shop.example.com/reset-password?token="


def test_the_mail_carries_a_fresh_token_that_nothing_keeps(deliver, box, sink, users):
    deliver("user.recovery.requested")
    [row] = box.rows()
    assert (row.channel, row.recipient, row.template) == ("email", BUYER["email"], "password_reset")
    assert (row.event_type, row.status, users.tokens) == ("user.recovery.requested", "queued", [])
    box.send()
    [mail] = sink.mails
    [token] = users.tokens
    assert RESET + token in mail.part("plain")
    assert RESET + token in mail.part("html")
    [asked] = [request for request in users.requests if request.path.endswith("email-token")]
    assert json.loads(asked.body) == {"purpose": "recovery"}
    [row] = box.rows()
    assert row.status == "sent"
    assert token not in str({**vars(row)})


def test_an_event_that_comes_twice_is_one_mail(deliver, box):
    event = deliver("user.recovery.requested")
    deliver("user.recovery.requested", event)
    assert len(box.rows()) == 1


def test_preferences_do_not_hold_it_back(deliver, box, client, bearer):
    off = {"email": False, "sms": False, "push": False}
    client.put("/api/v1/notifications/preferences", headers=bearer(), json=off)
    deliver("user.recovery.requested")
    assert [row.status for row in box.rows()] == ["queued"]


def test_no_token_goes_to_an_address_that_the_user_has_left(deliver, box, sink, users):
    deliver("user.recovery.requested")
    users.users[42] = BUYER | {"email": "new@example.com"}
    box.send()
    assert (sink.mails, [row.status for row in box.rows()]) == ([], ["failed"])


def test_without_a_token_there_is_no_mail(deliver, box, sink, users):
    deliver("user.recovery.requested")
    users.fails_with = 404
    box.send()
    assert (sink.mails, [row.status for row in box.rows()]) == ([], ["failed"])


def test_while_the_user_service_is_away_the_mail_waits(deliver, box, sink, users):
    deliver("user.recovery.requested")
    users.fails_with = 503
    box.send()
    assert (sink.mails, [row.status for row in box.rows()]) == ([], ["queued"])
