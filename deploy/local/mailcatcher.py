"""The development mail catcher without Docker: takes every mail by SMTP and shows it as MailDev does.

    python mailcatcher.py --folder data/mail --smtp-port 1025 --http-port 1080

It keeps `FOLDER/ID.eml`; `GET /email` lists the mails oldest first, `GET /email/ID` is one of them,
`DELETE /email/all` and `DELETE /email/ID` forget them, `/` shows them to a person.
"""

import argparse
import asyncio
import email
import email.policy
import html
import itertools
import json
import signal
import threading
import time
from email.message import EmailMessage
from email.utils import getaddresses
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

LARGEST_MAIL = 25 * 1024 * 1024
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Mail</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body{{font:16px system-ui;max-width:56rem;margin:2rem auto;padding:0 1rem}}
summary{{padding:.4rem 0}}small{{display:block;color:#555}}
pre{{overflow-wrap:anywhere;white-space:pre-wrap;background:#f6f6f6;padding:1rem}}</style>
<h1>{count} mails</h1>{mails}</html>"""
MAIL = """<details><summary>{subject} <small>to {to}, {date}</small></summary><pre>{text}</pre></details>"""


class Mailbox:
    """A folder of mails, one file each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = itertools.count()

    def add(self, content: bytes) -> str:
        """Keep one mail and return its id; ids sort by arrival."""
        name = f"{time.time_ns():020d}-{next(self._numbers)}"
        draft = self.folder / f"{name}.part"
        draft.write_bytes(content)
        # Renamed when whole, so that a reader never meets half a mail.
        draft.rename(self.folder / f"{name}.eml")
        return name

    def list(self) -> list[dict[str, Any]]:
        """Return every mail, oldest first."""
        return [mail for path in sorted(self.folder.glob("*.eml")) if (mail := self.read(path.stem))]

    def read(self, name: str) -> dict[str, Any] | None:
        """Return one mail in MailDev's shape."""
        try:
            content = self._path(name).read_bytes()
        except FileNotFoundError:
            return None
        return {"id": name} | describe(email.message_from_bytes(content, policy=email.policy.default))

    def delete(self, name: str) -> bool:
        """Forget one mail, or `all`; tell whether there was one."""
        found = list(self.folder.glob("*.eml")) if name == "all" else [self._path(name)]
        existing = [path for path in found if path.exists()]
        for path in existing:
            path.unlink(missing_ok=True)
        return bool(existing) or name == "all"

    def _path(self, name: str) -> Path:
        return self.folder / f"{Path(name).name}.eml"


def describe(message: EmailMessage) -> dict[str, Any]:
    """Return what MailDev's API says about a mail."""
    return {
        "subject": str(message["Subject"] or ""),
        "from": _addresses(message, "From"),
        "to": _addresses(message, "To"),
        "cc": _addresses(message, "Cc"),
        "date": str(message["Date"] or ""),
        "messageId": str(message["Message-ID"] or "").strip("<>"),
        "text": _body(message, "plain"),
        "html": _body(message, "html"),
        "headers": {name.lower(): str(value) for name, value in message.items()},
    }


def _addresses(message: EmailMessage, header: str) -> list[dict[str, str]]:
    pairs = getaddresses([str(value) for value in message.get_all(header, [])])
    return [{"address": address, "name": name} for name, address in pairs]


def _body(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    return str(part.get_content()) if part is not None else ""


class Receiver:
    """What aiosmtpd calls for each mail."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Take one mail."""
        content = envelope.content
        name = self._mailbox.add(content if isinstance(content, bytes) else str(content).encode())
        return f"250 Message accepted as {name}"


class Page(BaseHTTPRequestHandler):
    """Answer MailDev's requests."""

    mailbox: Mailbox

    def do_GET(self) -> None:
        """Answer with the mails, one mail, or the page."""
        path = self.path.partition("?")[0]
        if path == "/":
            self._send(200, "text/html; charset=utf-8", render(self.mailbox.list()))
        elif path == "/healthz":
            self._json(200, True)
        elif path == "/email":
            self._json(200, self.mailbox.list())
        elif path.startswith("/email/") and (mail := self.mailbox.read(path.removeprefix("/email/"))):
            self._json(200, mail)
        else:
            self._json(404, {"error": "Not found"})

    def do_DELETE(self) -> None:
        """Forget one mail or all."""
        name = self.path.removeprefix("/email/")
        deleted = self.path.startswith("/email/") and self.mailbox.delete(name)
        self._json(200 if deleted else 404, deleted)

    def _json(self, status: int, body: Any) -> None:
        # Without spaces, as MailDev writes it: whoever greps one's answer greps the other's.
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        self._send(status, "application/json; charset=utf-8", text)

    def _send(self, status: int, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Keep quiet: who looks at mails is of no interest."""


def render(mails: list[dict[str, Any]]) -> str:
    """Return the page a person looks at, newest mail first; mails are shown as text, never run."""
    shown = [
        MAIL.format(
            subject=html.escape(mail["subject"] or "(no subject)"),
            to=html.escape(", ".join(person["address"] for person in mail["to"])),
            date=html.escape(mail["date"]),
            text=html.escape(mail["text"] or mail["html"]),
        )
        for mail in reversed(mails)
    ]
    return PAGE.format(count=len(mails), mails="".join(shown))


async def serve(folder: Path, host: str, smtp_port: int, http_port: int) -> None:
    """Take and show mails until told to end."""
    mailbox = Mailbox(folder)
    smtp = Controller(Receiver(mailbox), hostname=host, port=smtp_port, data_size_limit=LARGEST_MAIL)
    web = ThreadingHTTPServer((host, http_port), type("MailPage", (Page,), {"mailbox": mailbox}))
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    smtp.start()
    thread = threading.Thread(target=web.serve_forever, daemon=True)
    thread.start()
    await ended.wait()
    web.shutdown()
    web.server_close()
    smtp.stop()


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(description="Catch every mail and show it.")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--smtp-port", type=int, default=1025)
    parser.add_argument("--http-port", type=int, default=1080)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(serve(options.folder, options.host, options.smtp_port, options.http_port))


if __name__ == "__main__":
    main()
