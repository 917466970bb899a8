"""Messages that an administrator sends by hand."""

import pytest

PATHS = {
    "email": {"to": "a@example.com", "subject": "你好", "body": "第一行\nsecond"},
    "sms": {"to": "+8613800138000", "body": "您的包裹已发出"},
    "push": {"user_id": 42, "title": "标题", "body": "正文", "url": "https://shop.example.com/x"},
}


def path(channel):
    return f"/api/v1/notifications/{channel}"


@pytest.mark.parametrize("channel", PATHS)
class TestEvery:
    def test_is_queued(self, client, admin, box, channel):
        answer = client.post(path(channel), json=PATHS[channel], headers=admin)
        assert answer.status_code == 202
        (row,) = box.rows()
        assert answer.get_json() == {"id": str(row.id), "status": "queued"}
        assert (row.channel, row.template, row.event_id) == (channel, "direct", None)

    def test_is_for_administrators(self, client, bearer, box, channel):
        assert client.post(path(channel), json=PATHS[channel], headers=bearer()).status_code == 403
        assert client.post(path(channel), json=PATHS[channel]).status_code == 401
        assert box.rows() == []

    def test_with_an_idempotency_key_is_queued_once(self, client, admin, box, channel):
        headers = {**admin, "Idempotency-Key": "key-1"}
        first = client.post(path(channel), json=PATHS[channel], headers=headers)
        again = client.post(path(channel), json=PATHS[channel], headers=headers)
        assert (again.status_code, again.get_json()) == (202, first.get_json())
        assert again.headers["Idempotent-Replayed"] == "true"
        assert len(box.rows()) == 1

    def test_without_a_key_is_queued_each_time(self, client, admin, box, channel):
        for _ in range(2):
            client.post(path(channel), json=PATHS[channel], headers=admin)
        assert len(box.rows()) == 2

    def test_names_a_field_that_it_does_not_know(self, client, admin, box, channel):
        answer = client.post(path(channel), json={**PATHS[channel], "bcc": "x"}, headers=admin)
        assert answer.status_code == 422
        assert [error["field"] for error in answer.get_json()["errors"]] == ["bcc"]
        assert box.rows() == []


@pytest.mark.parametrize(
    ("channel", "field", "value"),
    [
        ("email", "to", "nobody"),
        ("email", "to", "a@b@example.com"),
        ("email", "to", "a@localhost"),
        ("email", "to", "a@example.com\r\nBcc: b@example.com"),
        ("email", "to", "a@example.com, b@example.com"),
        ("email", "to", "a@" + "x" * 64 + ".com"),
        ("email", "to", "a" * 65 + "@example.com"),
        ("email", "to", "Ä@example.com"),
        ("email", "to", None),
        ("email", "subject", ""),
        ("email", "subject", "  "),
        ("email", "subject", "two\r\nBcc: b@example.com"),
        ("email", "subject", "two\x0blines"),
        ("email", "subject", "two\u2028lines"),
        ("email", "subject", "x" * 201),
        ("email", "body", ""),
        ("email", "body", 5),
        ("email", "html", ""),
        ("sms", "to", "13800138000"),
        ("sms", "to", "+0123456789"),
        ("sms", "to", "+86 138"),
        ("sms", "to", "+1" + "1" * 15),
        ("sms", "to", "+８６13800138000"),
        ("sms", "to", "+8613800138000\n"),
        ("sms", "body", "x" * 501),
        ("push", "user_id", 0),
        ("push", "user_id", "42"),
        ("push", "user_id", 10**18),
        ("push", "title", ""),
        ("push", "body", " "),
        ("push", "url", "javascript:alert(1)"),
        ("push", "url", "//example.com"),
        ("push", "url", "https://"),
        ("push", "url", "https://a b.com"),
    ],
)
def test_a_wrong_value_is_named(client, admin, box, channel, field, value):
    answer = client.post(path(channel), json={**PATHS[channel], field: value}, headers=admin)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.get_json()["errors"]] == [field]
    assert box.rows() == []


@pytest.mark.parametrize(
    "address", ["a.b+c@example.com", "o'neil@sub.example.co.uk", "x@例子.公司", "1@xn--fsqu00a.com"]
)
def test_an_unusual_address_is_taken(client, admin, address):
    answer = client.post(path("email"), json={**PATHS["email"], "to": address}, headers=admin)
    assert answer.status_code == 202


def test_a_mail_arrives_as_it_was_written(client, admin, box, sink):
    body = {**PATHS["email"], "html": "<p>第一行</p>"}
    client.post(path("email"), json=body, headers=admin)
    box.send()
    (mail,) = sink.of("a@example.com")
    assert mail.message["Subject"] == "你好"
    assert mail.part("plain").replace("\r\n", "\n").strip() == "第一行\nsecond"
    assert mail.part("html").strip() == "<p>第一行</p>"


def test_a_mail_without_html_is_plain_text(client, admin, box, sink):
    client.post(path("email"), json=PATHS["email"], headers=admin)
    box.send()
    assert sink.mails[0].message.get_content_type() == "text/plain"


def test_every_answer_is_in_the_openapi_document(client):
    document = client.get("/openapi.json").get_json()
    for channel in PATHS:
        assert {"202", "401", "403", "422"} <= document["paths"][path(channel)]["post"]["responses"].keys()
