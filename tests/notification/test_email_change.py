"""A new address gets a token to confirm it; the old one is told."""

NEW = "new@example.com"


def test_both_addresses_get_their_mail(deliver, box, sink, users):
    deliver("user.email.change.requested")
    rows = {row.recipient: row.template for row in box.rows()}
    assert rows == {NEW: "email_change", "xiaoming@example.com": "email_change_notice"}
    users.users[42] = users.users[42] | {"email": NEW}
    box.send()
    mails = {mail.to[0]: mail.part("plain") for mail in sink.mails}
    [token] = users.tokens
    assert f"/verify-email?token={token}" in mails[NEW]
    assert "token" not in mails["xiaoming@example.com"]
    assert NEW in mails["xiaoming@example.com"]


def test_a_change_given_up_sends_no_token(deliver, box, sink):
    deliver("user.email.change.requested")
    # The stub gives a token for the present address, as there is no other any more.
    box.send()
    assert [mail.to for mail in sink.mails] == [["xiaoming@example.com"]]
    assert {row.recipient: row.status for row in box.rows()}[NEW] == "failed"
