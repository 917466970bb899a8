"""Sending: a mail arrives however often sending it fails, and a second copy is recognisable."""

import json
import smtplib
import socket
import time
from dataclasses import replace

import psycopg2
import pytest
import sqlalchemy.exc
from aiosmtpd.smtp import SMTP
from sqlalchemy import text

from notification_service.channels import breaker, email
from notification_service.channels.deadline import Deadline
from notification_service.channels.email import SmtpMailer
from notification_service.errors import TemporaryFailure
from notification_service.models import db
from notification_service.services import send_notification, sending
from tests.notification.stubs import MailSink


def outcome(box):
    """Return status, attempts and last error of the one mail."""
    (row,) = box.rows(channel="email")
    return row.status, row.attempts, row.last_error


class TestMail:
    def test_of_an_order_arrives(self, deliver, box, sink):
        deliver("order.paid")
        box.send(channel="email")
        (mail,) = sink.of("xiaoming@example.com")
        assert mail.message["Subject"] == "订单 0C073981 付款凭证"
        assert mail.message["From"] == "测试商城 <shop@example.com>"
        assert mail.message.get_content_type() == "multipart/alternative"
        assert "龙井茶" in mail.part("plain")
        assert "龙井茶" in mail.part("html")
        assert outcome(box) == ("sent", 1, None)
        assert box.rows(channel="email")[0].sent_at is not None

    def test_is_named_after_its_notification(self, deliver, box, sink):
        deliver("order.paid")
        box.send(channel="email")
        (row,) = box.rows(channel="email")
        assert sink.mails[0].message["Message-ID"] == f"<{row.id}@example.com>"

    def test_is_sent_once(self, deliver, box, sink):
        deliver("user.registered")
        for _ in range(3):
            box.send()
        assert len(sink.mails) == 1

    def test_that_is_refused_for_good_fails_at_once(self, deliver, box, sink):
        sink.refuse_recipient = "550 5.1.1 no such mailbox"
        deliver("user.registered")
        box.send()
        assert outcome(box) == ("failed", 1, "the mail server said 550 5.1.1 no such mailbox")

    @pytest.mark.parametrize("place", ["refuse_recipient", "refuse_data"])
    def test_that_is_refused_for_now_is_sent_later(self, deliver, box, sink, place):
        setattr(sink, place, "451 try again later")
        deliver("user.registered")
        box.send()
        assert outcome(box) == ("queued", 1, "the mail server said 451 try again later")
        box.send()
        assert outcome(box)[1] == 1  # not before its time
        setattr(sink, place, None)
        box.age(1.1)
        box.send()
        assert outcome(box) == ("sent", 2, None)
        assert len(sink.mails) == 1

    def test_waits_for_a_mail_server_that_is_away(self, app, deliver, box):
        server = MailSink()
        settings = app.config["SETTINGS"].model_copy(update={"smtp_port": server.port})
        app.extensions["tools"] = replace(app.extensions["tools"], mailer=SmtpMailer(settings))
        deliver("user.registered")
        box.send()
        assert outcome(box)[0] == "queued"
        server.start()
        try:
            box.age(1.1)
            box.send()
        finally:
            server.stop()
        (row,) = box.rows()
        assert row.status == "sent"
        assert [m.message["Message-ID"] for m in server.mails] == [f"<{row.id}@example.com>"]

    @pytest.mark.parametrize(
        ("channel", "data", "reason"),
        [
            ("email", "data - 'total_amount'", "UndefinedError: 'total_amount' is undefined"),
            ("sms", "data - 'total_amount'", "UndefinedError: 'total_amount' is undefined"),
            ("push", "data - 'total_amount'", "UndefinedError: 'total_amount' is undefined"),
            ("push", "data - 'order_id'", "UndefinedError: 'order_id' is undefined"),
            ("email", """data || '{"payment_time": "x"}'""", "ValueError: Invalid isoformat string: 'x'"),
            (
                "email",
                """data || '{"payment_time": "0001-01-01T00:00:00+01:00"}'""",
                "OverflowError: date value out of range",
            ),
        ],
    )
    def test_whose_event_does_not_give_what_the_text_shows_fails_at_once(
        self, deliver, box, channel, data, reason
    ):
        deliver("order.paid")
        with db.engine.begin() as connection:
            connection.execute(
                text(f"UPDATE notifications SET data = {data}, channel = :channel"), {"channel": channel}
            )
        [*_, row] = box.rows()
        box.send(id=row.id)
        [row] = box.rows(id=row.id)
        assert (row.status, row.last_error) == ("failed", f"the message can't be written: {reason}")

    @pytest.mark.parametrize("channel", ["email", "sms", "push"])
    @pytest.mark.parametrize("column", ["template", "locale"])
    def test_that_only_a_newer_release_can_write_is_left_to_it(self, deliver, box, channel, column):
        deliver("order.paid")
        [*_, row] = box.rows()
        change = text(f"UPDATE notifications SET {column} = 'newer', channel = :channel")
        with db.engine.begin() as connection:
            connection.execute(change, {"channel": channel})
        with pytest.raises(KeyError, match="newer"):
            box.send(id=row.id)
        [row] = box.rows(id=row.id)
        assert (row.status, row.last_error) == ("sending", None)

    def test_is_given_up_after_a_day(self, deliver, box, sink):
        sink.refuse_data = "451 try again later"
        deliver("user.registered")
        box.age(24 * 3600 + 1)
        box.send()
        assert outcome(box)[0] == "failed"
        assert "given up after 1 attempts" in outcome(box)[2]

    def test_to_no_address_fails(self, users, deliver, box, sink):
        users.users[42] = {**users.users[42], "email": "x@example.com\r\nRCPT TO:<y@example.com>"}
        deliver("order.paid")
        box.send(channel="email")
        assert outcome(box) == ("failed", 1, "the recipient is no e-mail address")
        assert sink.mails == []

    def test_has_no_header_that_a_name_brought_along(self, deliver, box, sink):
        deliver("user.registered", username="Eve\r\nBcc: all@example.com\r\n\r\n<h1>x</h1>", locale="en")
        deliver("product.stock.updated", previous_stock=6, stock=5, sku="A\r\nBcc: all@example.com")
        box.send()
        assert len(sink.mails) == 1
        for mail in sink.mails:
            assert mail.message["Bcc"] is None
            assert "<h1>" not in mail.part("html")
            assert mail.to == ["xiaoming@example.com"]

    def test_with_a_subject_of_two_lines_stays_one_mail(self, users, deliver, box, sink):
        users.users[1] = {**users.users[42], "user_id": 1, "role": "admin", "email": "admin@example.com"}
        deliver("product.stock.updated", previous_stock=6, stock=5, sku="A\r\nBcc: all@example.com")
        box.send()
        (mail,) = sink.mails
        assert mail.message["Bcc"] is None
        assert "A Bcc: all@example.com" in mail.message["Subject"]


class TestCrash:
    def test_between_sending_and_noting_sends_a_recognisable_copy(self, deliver, box, sink):
        class Killed(BaseException):
            """The process ends here."""

        def killed(*_):
            raise Killed

        deliver("user.registered")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sending, "_settle", killed)
            with pytest.raises(Killed):
                box.send()
        assert outcome(box)[0] == "sending"
        box.send()
        assert len(sink.mails) == 1  # somebody may still be at it
        box.age(61)
        box.send()
        assert outcome(box) == ("sent", 2, None)
        first, second = sink.mails
        assert first.message["Message-ID"] == second.message["Message-ID"]

    def test_again_and_again_ends_after_a_day(self, deliver, box, sink):
        deliver("user.registered")
        with db.engine.begin() as connection:
            connection.execute(text("UPDATE notifications SET status = 'sending', claimed_at = now()"))
        box.age(24 * 3600 + 1)
        box.send()
        assert outcome(box)[0] == "failed"
        assert sink.mails == []

    def test_of_a_claim_that_passed_on_changes_nothing_any_more(self, app, deliver, box, sink):
        """A task that slept for more than a minute wakes up and must not undo what another has done."""
        tools = app.extensions["tools"]

        class SleepyMailer:
            """Fails, but only after another task has taken over and sent the mail."""

            def send(self, notification_id, to, mail):
                box.age(61)
                with app.app_context():
                    send_notification(db.session, notification_id, tools)
                raise TemporaryFailure("too late")

        app.extensions["tools"] = replace(tools, mailer=SleepyMailer())
        deliver("user.registered")
        box.send()
        assert outcome(box) == ("sent", 2, None)
        assert len(sink.mails) == 1


@pytest.fixture(autouse=True)
def _context(app):
    with app.app_context():
        yield


class TestDatabaseAway:
    def test_does_not_lose_that_a_mail_was_sent(self, app, deliver, box, sink, monkeypatch):
        settle, failures = sending._settle, []

        def away_at_first(*arguments):
            if len(failures) < 2:
                failures.append(1)
                raise sqlalchemy.exc.OperationalError("UPDATE", {}, psycopg2.OperationalError("gone"))
            settle(*arguments)

        monkeypatch.setattr(sending, "_settle", away_at_first)
        deliver("user.registered")
        box.send()
        assert outcome(box) == ("sent", 1, None)
        assert len(sink.mails) == 1

    def test_lasts_longer_than_patience(self, deliver, box, sink, monkeypatch):
        def away(*_):
            raise sqlalchemy.exc.OperationalError("UPDATE", {}, psycopg2.OperationalError("gone"))

        monkeypatch.setattr(sending, "_settle", away)
        monkeypatch.setattr(sending, "OUTCOME_PATIENCE", 0.2)
        deliver("user.registered")
        with pytest.raises(sqlalchemy.exc.OperationalError):
            box.send()


class TestVerificationLink:
    def test_is_in_the_welcome_mail_alone(self, deliver, box, sink, users, tmp_path, capfd):
        deliver("user.registered")
        assert users.tokens == []  # not before the moment of sending
        box.send()
        (token,) = users.tokens
        (mail,) = sink.mails
        link = f"https://shop.example.com/verify-email?token={token}"
        assert link in mail.part("plain")
        assert link in mail.part("html")
        kept = json.dumps([everything(table) for table in db.metadata.sorted_tables], default=str)
        assert token not in kept
        written = (tmp_path / "app.log").read_text() + capfd.readouterr().out
        assert "notification sent" in written
        assert token not in written

    def test_is_a_fresh_one_for_each_attempt(self, deliver, box, sink, users):
        sink.refuse_data = "451 later"
        deliver("user.registered")
        box.send()
        sink.refuse_data = None
        box.age(1.1)
        box.send()
        assert users.tokens[1] in sink.mails[0].part("plain")

    def test_waits_for_a_user_service_that_is_away(self, deliver, box, sink, users):
        users.fails_with = 503
        deliver("user.registered")
        box.send()
        assert outcome(box) == ("queued", 1, "user service is away")
        users.fails_with = None
        box.age(1.1)
        box.send()
        assert outcome(box)[0] == "sent"

    def test_is_left_out_when_none_is_to_be_had(self, deliver, box, sink, users):
        users.users.clear()
        deliver("user.registered")
        box.send()
        assert "token=" not in sink.mails[0].part("plain")


def seconds_to_next_attempt(box, session):
    """Return how long the one mail waits."""
    (row,) = box.rows(channel="email")
    return (row.next_attempt_at - session.scalar(sqlalchemy.func.now())).total_seconds()


def everything(table):
    """Read a whole table."""
    return [list(row) for row in db.session.execute(table.select())]


class TestMailServer:
    @pytest.fixture
    def mailer(self, settings):
        return SmtpMailer(settings)

    def test_that_falls_silent_is_left_in_time(self, monkeypatch, settings, deliver, box, app):
        monkeypatch.setattr(email, "WAIT_SECONDS", 0.3)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            quiet = settings.model_copy(update={"smtp_port": silent.getsockname()[1]})
            app.extensions["tools"] = replace(app.extensions["tools"], mailer=SmtpMailer(quiet))
            deliver("user.registered")
            started = time.monotonic()
            box.send()
        assert time.monotonic() - started < email.MAIL_SECONDS / 2
        assert outcome(box)[0] == "queued"

    def test_that_looks_into_mails_for_longer_than_other_replies_take_gets_each_once(
        self, monkeypatch, sink, deliver, box
    ):
        monkeypatch.setattr(email, "WAIT_SECONDS", 2.0)
        sink.seconds_after = 3.0
        deliver("user.registered")
        box.send()
        assert outcome(box) == ("sent", 1, None)
        assert len(sink.mails) == 1

    def test_that_takes_a_mail_and_says_nothing_is_rarely_given_it_again(
        self, monkeypatch, sink, deliver, box, session
    ):
        monkeypatch.setattr(email, "MAIL_SECONDS", 2.0)
        monkeypatch.setattr(email, "LEAST_SECONDS", 0.1)
        sink.seconds_after = 4.0
        deliver("user.registered")
        box.send()
        reason = "the mail server did not answer to the whole mail, so it may have taken it"
        assert outcome(box) == ("queued", 1, reason)
        box.age(590)
        box.send()
        assert len(sink.mails) == 1
        box.age(11)
        box.send()
        assert len(sink.mails) == 2
        assert seconds_to_next_attempt(box, session) == pytest.approx(1200, abs=5)

    def test_that_leaves_in_the_middle_of_its_answer_is_given_the_mail_again_after_a_while(
        self, monkeypatch, sink, deliver, box, session
    ):
        async def leave(server, _arg):
            await server.push("354 go on")
            while await server._reader.readline() != b".\r\n":
                """It takes the whole mail."""
            server._writer.write(b"25")
            await server._writer.drain()
            server._writer.close()

        monkeypatch.setattr(SMTP, "smtp_DATA", leave)
        # Its commands are looked up when it starts.
        sink.stop()
        sink.start()
        deliver("user.registered")
        box.send()
        reason = "the mail server left without an answer to the whole mail, so it may have taken it"
        assert outcome(box) == ("queued", 1, reason)
        assert seconds_to_next_attempt(box, session) == pytest.approx(15, abs=5)

    def test_s_machine_must_give_signs_of_life_while_it_thinks(self, mailer, sink):
        with Deadline(5) as deadline, mailer._connect(deadline) as server:
            assert server.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            options = {name: server.sock.getsockopt(socket.IPPROTO_TCP, name) for name in email.SIGNS_OF_LIFE}
        assert options == email.SIGNS_OF_LIFE

    def test_of_which_two_addresses_of_three_are_dead_is_given_the_mail(
        self, monkeypatch, sink, deliver, box, clock
    ):
        connect = socket.create_connection
        dead = [("192.0.2.1", sink.port), ("192.0.2.2", sink.port)]

        def create_connection(address, timeout):
            if address not in dead:
                return connect(address, timeout)
            # A wait ends a little late.
            clock.seconds += timeout + 0.01
            raise TimeoutError("timed out")

        monkeypatch.setattr(email, "find_addresses", lambda *_: [*dead, ("127.0.0.1", sink.port)])
        monkeypatch.setattr(socket, "create_connection", create_connection)
        deliver("user.registered")
        box.send()
        assert outcome(box) == ("sent", 1, None)

    def test_that_can_t_be_connected_to_has_others_rest(self):
        assert email.CONNECT_SECONDS >= breaker.SLOW_SECONDS

    def test_that_leaves_no_time_for_its_answer_is_given_no_mail(self, monkeypatch, sink, deliver, box):
        monkeypatch.setattr(email, "MAIL_SECONDS", 5.0)
        monkeypatch.setattr(email, "LEAST_SECONDS", 5.0)
        deliver("user.registered")
        box.send()
        assert outcome(box)[0] == "queued"
        assert "no time left" in outcome(box)[2]
        assert sink.mails == []

    @pytest.mark.parametrize("farewell", ["421 4.3.2 shutting down", "250 OK"])
    def test_s_farewell_changes_nothing_about_a_mail_that_it_has_taken(
        self, monkeypatch, mailer, app, sink, deliver, box, farewell
    ):
        async def quit_(server, _arg):
            await server.push(farewell)

        monkeypatch.setattr(SMTP, "smtp_QUIT", quit_)
        app.extensions["tools"] = replace(app.extensions["tools"], mailer=mailer)
        # Its commands are looked up when it starts.
        sink.stop()
        sink.start()
        deliver("user.registered")
        box.send()
        assert outcome(box) == ("sent", 1, None)
        assert len(sink.mails) == 1

    @pytest.mark.parametrize(
        ("error", "permanent"),
        [
            (smtplib.SMTPRecipientsRefused({"a@b.c": (550, b"no")}), True),
            (smtplib.SMTPRecipientsRefused({"a@b.c": (450, b"later")}), False),
            (smtplib.SMTPSenderRefused(552, b"too big", "x"), True),
            (smtplib.SMTPSenderRefused(530, b"log in first", "x"), False),
            (smtplib.SMTPDataError(554, b"spam"), True),
            (smtplib.SMTPDataError(421, b"bye"), False),
            (smtplib.SMTPAuthenticationError(535, b"who?"), False),
            (smtplib.SMTPConnectError(554, b"no service"), False),
            (smtplib.SMTPServerDisconnected("gone"), False),
            (smtplib.SMTPNotSupportedError("no STARTTLS"), False),
            (ConnectionRefusedError("refused"), False),
            (TimeoutError("timed out"), False),
        ],
    )
    def test_s_refusal_is_judged(self, mailer, monkeypatch, error, permanent, deliver, box, app, sink):
        def refuse(*_):
            raise error

        monkeypatch.setattr(mailer, "_hand_over", refuse)
        app.extensions["tools"] = replace(app.extensions["tools"], mailer=mailer)
        deliver("user.registered")
        box.send()
        assert outcome(box)[0] == ("failed" if permanent else "queued")
