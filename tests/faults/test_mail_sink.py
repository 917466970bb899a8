"""The mail sink itself."""

import smtplib
from collections.abc import Iterator
from email.message import EmailMessage

import pytest

from tests.faults.outside import MailSink, run_mail_sink


@pytest.fixture(scope="module")
def sink() -> Iterator[MailSink]:
    with run_mail_sink() as running:
        yield running


def mail(message_id: str, text: str = "Hello\n", **headers: str) -> EmailMessage:
    """Write a mail."""
    message = EmailMessage()
    message["Message-ID"] = f"<{message_id}>"
    message["From"], message["To"] = "shop@example.com", "li@example.com"
    message["Subject"] = "Your order"
    for name, value in headers.items():
        message.replace_header(name, value)
    message.set_content(text)
    return message


def send(sink: MailSink, message: EmailMessage, *to: str) -> None:
    """Send a mail."""
    with smtplib.SMTP("127.0.0.1", sink.smtp_port, timeout=10) as smtp:
        assert smtp.send_message(message, to_addrs=to or None) == {}


def test_a_mail_is_kept_as_it_came(sink: MailSink):
    send(sink, mail("one@shop", "您好\n.a line with a dot\n", Subject="订单 5001 已付款"))
    kept = sink.mails()[-1]
    assert kept["message_id"] == "one@shop"
    assert (kept["from"], kept["to"]) == ("shop@example.com", ["li@example.com"])
    assert kept["subject"] == "订单 5001 已付款"
    assert kept["text"].splitlines() == ["您好", ".a line with a dot"]


def test_the_same_mail_again_is_kept_again(sink: MailSink):
    for _ in range(2):
        send(sink, mail("two@shop"))
    assert [kept["message_id"] for kept in sink.mails()[-2:]] == ["two@shop", "two@shop"]


def test_every_recipient_is_named(sink: MailSink):
    send(sink, mail("three@shop"), "a@example.com", "b@example.com")
    assert sink.mails()[-1]["to"] == ["a@example.com", "b@example.com"]


def test_several_mails_go_over_one_connection(sink: MailSink):
    before = len(sink.mails())
    with smtplib.SMTP("127.0.0.1", sink.smtp_port, timeout=10) as smtp:
        for number in range(3):
            smtp.send_message(mail(f"{number}@one-connection"))
    assert len(sink.mails()) == before + 3


def test_what_was_taken_outlives_the_process():
    with run_mail_sink() as sink:
        send(sink, mail("four@shop"))
        sink.child.kill()
        sink.start()
        assert [kept["message_id"] for kept in sink.mails()] == ["four@shop"]
        send(sink, mail("five@shop"))
        assert [kept["seq"] for kept in sink.mails()] == [1, 2]


def test_commands_out_of_turn_are_refused(sink: MailSink):
    before = len(sink.mails())
    with smtplib.SMTP("127.0.0.1", sink.smtp_port, timeout=10) as smtp:
        smtp.ehlo()
        assert smtp.docmd("RCPT", "TO:<a@example.com>")[0] == 503
        assert smtp.docmd("DATA")[0] == 503
        assert smtp.docmd("MAIL", "nobody")[0] == 501
        assert smtp.docmd("VRFY", "a@example.com")[0] == 502
    assert len(sink.mails()) == before


def test_half_a_mail_is_none(sink: MailSink):
    before = len(sink.mails())
    smtp = smtplib.SMTP("127.0.0.1", sink.smtp_port, timeout=10)
    smtp.ehlo()
    smtp.mail("a@example.com")
    smtp.rcpt("b@example.com")
    assert smtp.docmd("DATA")[0] == 354
    smtp.send(b"Subject: half\r\n\r\nand then")
    smtp.close()
    send(sink, mail("six@shop"))
    assert [kept["message_id"] for kept in sink.mails()[before:]] == ["six@shop"]
