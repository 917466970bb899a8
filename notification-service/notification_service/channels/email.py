"""Mails by SMTP."""

import contextlib
import smtplib
import socket
import ssl
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime, formataddr, parseaddr
from typing import Any, Protocol
from uuid import UUID

from notification_service.channels.breaker import Breaker
from notification_service.channels.deadline import Deadline, find_addresses
from notification_service.config import Settings
from notification_service.errors import CutOff, OutcomeUnknown, PermanentFailure, TemporaryFailure
from notification_service.recipients import is_email
from notification_service.rendering import Mail, one_line

# For each address: two that are dead leave the third most of MAIL_SECONDS. Not less than the breaker's
# SLOW_SECONDS, or a server that is away would hold up one mail after the other.
CONNECT_SECONDS = 5.0
# For each reply but that to the mail itself, which has all that is left: the server may look for viruses.
WAIT_SECONDS = 10.0
# All waits of one mail together: less than the age at which a claim counts as abandoned.
MAIL_SECONDS = 30.0
# A mail is not handed over any more when less than this is left to wait for the answer.
LEAST_SECONDS = 5.0
# The other machine must give a sign of life, so that a network which is cut off ends the wait after some
# 10 s and is not taken for a server that thinks: seconds, seconds, tries, milliseconds.
SIGNS_OF_LIFE = {
    socket.TCP_KEEPIDLE: 4,
    socket.TCP_KEEPINTVL: 2,
    socket.TCP_KEEPCNT: 3,
    socket.TCP_USER_TIMEOUT: 10_000,
}
# The server wants a login, or another one: the settings' fault, which an operator can mend.
LOGIN_CODES = frozenset({530, 534, 535, 538})


class Mailer(Protocol):
    """What sends a mail."""

    def send(self, notification_id: UUID, to: str, mail: Mail) -> None: ...


class SmtpMailer:
    """Sends each mail on a connection of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._breaker = Breaker("the mail server", trial_seconds=MAIL_SECONDS)

    def send(self, notification_id: UUID, to: str, mail: Mail) -> None:
        """Hand one mail to the SMTP server, or raise a `DeliveryError`."""
        if not is_email(to):
            raise PermanentFailure("the recipient is no e-mail address")
        message = build_message(self._settings, notification_id, to, mail)
        with self._breaker.trying(), Deadline(MAIL_SECONDS) as deadline:
            self._send(message, deadline)

    def _send(self, message: EmailMessage, deadline: Deadline) -> None:
        try:
            with self._connect(deadline) as server:
                self._hand_over(server, message)
        except smtplib.SMTPRecipientsRefused as error:
            raise _judged(*next(iter(error.recipients.values()))) from error
        except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as error:
            raise _judged(error.smtp_code, error.smtp_error) from error
        except (smtplib.SMTPException, OSError) as error:
            # Greeting, TLS, login or a lost connection: the server's state, not this mail.
            raise TemporaryFailure(_trouble(error, deadline)) from error

    def _connect(self, deadline: Deadline) -> smtplib.SMTP:
        host, port = self._settings.smtp_host, self._settings.smtp_port
        if self._settings.smtp_tls == "ssl":
            return _TimedTls(host, port, deadline, context=ssl.create_default_context())
        return _Timed(host, port, deadline)

    def _hand_over(self, server: smtplib.SMTP, message: EmailMessage) -> None:
        if self._settings.smtp_tls == "starttls":
            server.starttls(context=ssl.create_default_context())
        if self._settings.smtp_user:
            server.login(self._settings.smtp_user, self._settings.smtp_password)
        sender, to = parseaddr(self._settings.mail_from)[1], str(message["To"])
        server.sendmail(_ascii(sender), [_ascii(to)], message.as_bytes(policy=SMTP_POLICY))


class _Timed(smtplib.SMTP):
    """An SMTP connection that ends at a deadline, and knows whether the server owes an answer to a mail."""

    def __init__(self, host: str, port: int, deadline: Deadline, **kwargs: Any) -> None:
        self._deadline, self._owes_answer = deadline, False
        super().__init__(host, port, timeout=WAIT_SECONDS, **kwargs)

    def __exit__(self, *args: Any) -> None:
        # The mail's fate is decided by then: an odd answer to QUIT must not have it sent a second time.
        with contextlib.suppress(smtplib.SMTPException, OSError):
            super().__exit__(*args)

    def _get_socket(self, host: str, port: int, _timeout: float) -> socket.socket:
        connection = self._deadline.connect(find_addresses(host, port), at_most=CONNECT_SECONDS)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in SIGNS_OF_LIFE.items():
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
        return connection

    def send(self, s: Any) -> None:
        # Commands are text; the one thing in bytes is the mail with its final dot.
        is_mail = not isinstance(s, str)
        if is_mail and self._deadline.left() < LEAST_SECONDS:
            self.close()
            raise smtplib.SMTPServerDisconnected("no time left to wait for the answer to the mail")
        super().send(s)
        self._owes_answer = is_mail

    def getreply(self) -> tuple[int, bytes]:
        if self.sock is not None:
            # The deadline itself ends the wait for the answer to a mail, and every wait of drops.
            self.sock.settimeout(self._deadline.left() + 1 if self._owes_answer else WAIT_SECONDS)
        try:
            code, text = super().getreply()
        except (smtplib.SMTPException, OSError) as error:
            if self._owes_answer:
                raise self._unknown() from error
            raise
        if self._owes_answer and not 200 <= code < 600:
            raise self._unknown()
        self._owes_answer = False
        return code, text

    def _unknown(self) -> OutcomeUnknown:
        if self._deadline.is_over:
            return OutcomeUnknown("the mail server did not answer to the whole mail, so it may have taken it")
        return CutOff("the mail server left without an answer to the whole mail, so it may have taken it")


class _TimedTls(_Timed, smtplib.SMTP_SSL):
    """The same, with TLS from the first byte."""

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        plain = super()._get_socket(host, port, timeout)
        return self.context.wrap_socket(plain, server_hostname=host)


def build_message(settings: Settings, notification_id: UUID, to: str, mail: Mail) -> EmailMessage:
    """Build the mail; a second copy, should a crash cause one, has the same `Message-ID`."""
    message = EmailMessage(policy=SMTP_POLICY.clone(utf8=False))
    name, address = parseaddr(settings.mail_from)
    message["From"] = formataddr((one_line(name), _ascii(address)))
    message["To"] = _ascii(to)
    message["Subject"] = one_line(mail.subject)
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = f"<{notification_id}@{_ascii(address).rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    # Base64 whatever the text holds, so that no line is too long and no server rewrites one.
    message.set_content(mail.text, charset="utf-8", cte="base64")
    if mail.html is not None:
        message.add_alternative(mail.html, subtype="html", charset="utf-8", cte="base64")
    return message


def _ascii(address: str) -> str:
    """Write an international domain the way every server takes it."""
    local, _, domain = address.rpartition("@")
    return f"{local}@{domain.encode('idna').decode()}"


def _judged(code: int, text: bytes | str) -> PermanentFailure | TemporaryFailure:
    plain = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    reason = f"the mail server said {code} {one_line(plain)}"
    permanent = 500 <= code < 600 and code not in LOGIN_CODES
    return PermanentFailure(reason) if permanent else TemporaryFailure(reason)


def _trouble(error: Exception, deadline: Deadline) -> str:
    if deadline.is_over:
        return "the mail server took too long"
    if isinstance(error, smtplib.SMTPException):
        return _reason(error)
    return f"no connection to the mail server: {_reason(error)}"


def _reason(error: Exception) -> str:
    return one_line(f"{type(error).__name__}: {error}")
