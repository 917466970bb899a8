"""Mail servers by TLS: only one whose certificate somebody vouches for gets a login and a mail."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from deploy.local.ports import free_ports
from deploy.setup.certificate import make_certificate
from notification_service.channels.email import SmtpMailer
from notification_service.config import Settings
from notification_service.errors import TemporaryFailure
from notification_service.rendering import Mail

MAIL = Mail("subject", "text", None)


class Server:
    """Keeps who logged in and which mails came."""

    def __init__(self) -> None:
        self.logins: list[bytes] = []
        self.mails: list[bytes] = []

    def log_in(self, _server, _session, _envelope, _mechanism, login) -> AuthResult:
        self.logins.append(login.password)
        return AuthResult(success=True)

    async def handle_DATA(self, _server, _session, envelope) -> str:
        self.mails.append(envelope.content)
        return "250 OK"


@contextmanager
def mail_server(tls: str, folder: Path) -> Iterator[tuple[Server, int]]:
    """Run a mail server with the certificate in the folder; yield it and its port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    server, [port] = Server(), free_ports(1)
    how = {"ssl_context": context} if tls == "ssl" else {"tls_context": context}
    controller = Controller(
        server,
        "127.0.0.1",
        port,
        authenticator=server.log_in,
        auth_require_tls=tls == "starttls",
        **how,
    )
    controller.start()
    try:
        yield server, port
    finally:
        controller.stop()


def mailer(settings: Settings, port: int, tls: str) -> SmtpMailer:
    server = {"smtp_host": "127.0.0.1", "smtp_port": port, "smtp_tls": tls}
    return SmtpMailer(
        settings.model_copy(update=server | {"smtp_user": "shop", "smtp_password": "only-for-tests"})
    )


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    make_certificate(tmp_path)
    return tmp_path


@pytest.mark.parametrize("tls", ["starttls", "ssl"])
class TestAMailServer:
    def test_that_nobody_vouches_for_gets_neither_login_nor_mail(self, settings, certificate, tls):
        with mail_server(tls, certificate) as (server, port):
            with pytest.raises(TemporaryFailure, match="CERTIFICATE_VERIFY_FAILED"):
                mailer(settings, port, tls).send(uuid4(), "somebody@example.com", MAIL)
            assert (server.logins, server.mails) == ([], [])

    def test_that_is_vouched_for_gets_both(self, settings, certificate, tls, monkeypatch):
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
        with mail_server(tls, certificate) as (server, port):
            mailer(settings, port, tls).send(uuid4(), "somebody@example.com", MAIL)
            assert server.logins == [b"only-for-tests"]
            assert len(server.mails) == 1


def test_one_that_offers_no_tls_gets_nothing_where_it_is_wanted(settings):
    server, [port] = Server(), free_ports(1)
    controller = Controller(server, "127.0.0.1", port)
    controller.start()
    try:
        with pytest.raises(TemporaryFailure, match="STARTTLS"):
            mailer(settings, port, "starttls").send(uuid4(), "somebody@example.com", MAIL)
        assert server.mails == []
    finally:
        controller.stop()
