"""The mail catcher takes mails by SMTP and answers as MailDev does."""

import json
import signal
import smtplib
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from deploy.local import mailcatcher
from deploy.local.ports import free_ports, is_free


class Catcher:
    """A running mail catcher."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.smtp_port, self.http_port = free_ports(2)
        command = [sys.executable, mailcatcher.__file__, "--folder", str(folder)]
        ports = ["--smtp-port", str(self.smtp_port), "--http-port", str(self.http_port)]
        self.process = subprocess.Popen([*command, *ports])
        deadline = time.monotonic() + 10
        while is_free(self.smtp_port) or is_free(self.http_port):
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def get(self, path: str, method: str = "GET") -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", method=method)
        with urllib.request.urlopen(request) as answer:
            return answer.read()

    def send(self, subject: str) -> None:
        mail = EmailMessage()
        mail["Subject"], mail["From"], mail["To"] = (
            subject,
            "店铺 <shop@example.com>",
            "李雷 <lilei@example.com>",
        )
        mail.set_content("你好 <b>")
        mail.add_alternative("<p>你好</p>", subtype="html")
        with smtplib.SMTP("127.0.0.1", self.smtp_port) as client:
            client.send_message(mail)


@pytest.fixture
def catcher(tmp_path: Path) -> Iterator[Catcher]:
    running = Catcher(tmp_path / "mail")
    yield running
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(10) == 0


def test_a_mail_is_kept_and_listed_as_maildev_does(catcher: Catcher) -> None:
    catcher.send("欢迎")
    [mail] = json.loads(catcher.get("/email"))
    assert mail["subject"] == "欢迎"
    assert mail["from"] == [{"address": "shop@example.com", "name": "店铺"}]
    assert mail["to"] == [{"address": "lilei@example.com", "name": "李雷"}]
    assert mail["text"].strip() == "你好 <b>"
    assert mail["html"].strip() == "<p>你好</p>"
    assert mail["headers"]["subject"] == "欢迎"
    assert (catcher.folder / f"{mail['id']}.eml").exists()
    assert json.loads(catcher.get(f"/email/{mail['id']}")) == mail


def test_mails_are_listed_in_the_order_of_arrival(catcher: Catcher) -> None:
    for number in range(5):
        catcher.send(f"mail {number}")
    assert [mail["subject"] for mail in json.loads(catcher.get("/email"))] == [f"mail {n}" for n in range(5)]


def test_the_page_shows_mails_as_text(catcher: Catcher) -> None:
    catcher.send("<script>alert(1)</script>")
    page = catcher.get("/").decode()
    assert "&lt;script&gt;" in page
    assert "<script>" not in page


def test_an_unknown_mail_is_not_found(catcher: Catcher) -> None:
    for path in ("/email/none", "/email/..%2f..%2fetc", "/other"):
        with pytest.raises(urllib.error.HTTPError) as refusal:
            catcher.get(path)
        assert refusal.value.code == 404
        refusal.value.close()


def test_mails_can_be_forgotten(catcher: Catcher) -> None:
    catcher.send("one")
    catcher.send("two")
    first = json.loads(catcher.get("/email"))[0]
    catcher.get(f"/email/{first['id']}", "DELETE")
    assert [mail["subject"] for mail in json.loads(catcher.get("/email"))] == ["two"]
    catcher.get("/email/all", "DELETE")
    assert json.loads(catcher.get("/email")) == []
