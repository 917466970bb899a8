"""Mails by SMTP."""

import contextlib
import smtplib
import ssl
import time
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime, formataddr, parseaddr
from typing import Any, Protocol
from uuid import UUID

from notification_service.config import Settings
from notification_service.errors import PermanentFailure, TemporaryFailure
from notification_service.recipients import is_email
from notification_service.rendering import Mail, one_line

WAIT_SECONDS = 10.0
# All waits of one mail together: less than the age at which a claim counts as abandoned.
MAIL_SECONDS = 30.0
# The server wants a login, or another one: the settings' fault, which an operator can mend.
LOGIN_CODES = frozenset({530, 534, 535, 538})


class Mailer(Protocol):
    """What sends a mail."""

    def send(self, notification_id: UUID, to: str, mail: Mail) -> None: ...


class SmtpMailer:
    """Sends each mail on a connection of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def send(self, notification_id: UUID, to: str, mail: Mail) -> None:
        """Hand one mail to the SMTP server, or raise a `DeliveryError`."""
        if not is_email(to):
            raise PermanentFailure("the recipient is no e-mail address")
        message = build_message(self._settings, notification_id, to, mail)
        try:
            with self._connect() as server:
                self._hand_over(server, message)
        except smtplib.SMTPRecipientsRefused as error:
            raise _judged(*next(iter(error.recipients.values()))) from error
        except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as error:
            raise _judged(error.smtp_code, error.smtp_error) from error
        except smtplib.SMTPException as error:
            # Greeting, TLS, login or a lost connection: the server's state, not this mail.
            raise TemporaryFailure(_reason(error)) from error
        except OSError as error:
            raise TemporaryFailure(f"no connection to the mail server: {_reason(error)}") from error

    def _connect(self) -> smtplib.SMTP:
        host, port, tls = self._settings.smtp_host, self._settings.smtp_port, self._settings.smtp_tls
        server: smtplib.SMTP
        if tls == "ssl":
            server = _PatientTls(host, port, timeout=WAIT_SECONDS, context=ssl.create_default_context())
        else:
            server = _Patient(host, port, timeout=WAIT_SECONDS)
        return server

    def _hand_over(self, server: smtplib.SMTP, message: EmailMessage) -> None:
        if self._settings.smtp_tls == "starttls":
            server.starttls(context=ssl.create_default_context())
        if self._settings.smtp_user:
            server.login(self._settings.smtp_user, self._settings.smtp_password)
        sender, to = parseaddr(self._settings.mail_from)[1], str(message["To"])
        server.sendmail(_ascii(sender), [_ascii(to)], message.as_bytes(policy=SMTP_POLICY))


class _Patient(smtplib.SMTP):
    """An SMTP connection whose waits together have an end: a server may say each byte just in time."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._ends = time.monotonic() + MAIL_SECONDS
        super().__init__(*args, **kwargs)

    def __exit__(self, *args: Any) -> None:
        # The mail's fate is decided by then: an odd answer to QUIT must not have it sent a second time.
        with contextlib.suppress(smtplib.SMTPException, OSError):
            super().__exit__(*args)

    def getreply(self) -> tuple[int, bytes]:
        left = self._ends - time.monotonic()
        if left <= 0:
            self.close()
            raise smtplib.SMTPServerDisconnected("the mail server took too long")
        if self.sock is not None:
            self.sock.settimeout(min(WAIT_SECONDS, left))
        return super().getreply()


class _PatientTls(_Patient, smtplib.SMTP_SSL):
    """The same, with TLS from the first byte."""


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


def _reason(error: Exception) -> str:
    return one_line(f"{type(error).__name__}: {error}")
