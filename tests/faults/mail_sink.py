"""A mail server that delivers nothing and forgets nothing, to judge the shop by.

    python -m tests.faults.mail_sink --smtp-port 9025 --http-port 9080 --folder FOLDER

Each mail is a line of FOLDER/mails.jsonl, on the disk before the sender is told that it was taken, and is
never removed. `GET /lab/mails[?after=SEQ]` lists them: `{seq, received_at, message_id, from, to, subject,
text}`; `to` are the recipients of the envelope. It needs nothing but Python.
"""

import argparse
import asyncio
import email
import email.policy
import json
import os
import re
import signal
import threading
import time
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

LARGEST_MAIL = 25 * 1024 * 1024
IDLE_SECONDS = 300


class Mails:
    """A file of JSON lines, one a mail, that only grows."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "mails.jsonl"
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            # A killed process wrote half a line, and told nobody that the mail was taken.
            os.truncate(path, len(whole))
        self.lines: list[dict[str, Any]] = [json.loads(line) for line in whole.splitlines()]
        self._file = path.open("ab")

    def add(self, sender: str, recipients: list[str], content: bytes) -> int:
        """Keep a mail and return its number."""
        message = email.message_from_bytes(content, policy=email.policy.default)
        line = {
            "seq": len(self.lines) + 1,
            "received_at": time.time(),
            "message_id": str(message["Message-ID"] or "").strip().strip("<>"),
            "from": sender,
            "to": recipients,
            "subject": str(message["Subject"] or ""),
            "text": _text(message),
        }
        self._file.write(json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.lines.append(line)
        return len(self.lines)


def _text(message: EmailMessage) -> str:
    part = message.get_body(("plain", "html"))
    return str(part.get_content()).replace("\r\n", "\n") if part is not None else ""


class Conversation:
    """One sender's SMTP (RFC 5321), as far as senders use it."""

    def __init__(self, mails: Mails, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._mails, self._reader, self._writer = mails, reader, writer
        self._reset()

    def _reset(self) -> None:
        self._sender: str | None = None
        self._recipients: list[str] = []

    async def run(self) -> None:
        """Speak until the sender has finished."""
        try:
            await self._say("220 sink ESMTP")
            while await self._answer(await self._line()):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            pass
        finally:
            self._writer.close()

    async def _line(self) -> bytes:
        return await asyncio.wait_for(self._reader.readuntil(b"\r\n"), IDLE_SECONDS)

    async def _say(self, *lines: str) -> None:
        self._writer.write("".join(f"{line}\r\n" for line in lines).encode())
        await self._writer.drain()

    async def _answer(self, line: bytes) -> bool:
        """Answer one command; tell whether another may follow."""
        text = line.decode("utf-8", "replace").strip()
        verb, _, rest = text.partition(" ")
        match verb.upper():
            case "EHLO":
                self._reset()
                await self._say("250-sink", f"250-SIZE {LARGEST_MAIL}", "250-8BITMIME", "250 SMTPUTF8")
            case "HELO" | "RSET":
                self._reset()
                await self._say("250 sink")
            case "MAIL":
                self._reset()
                self._sender = _address(rest)
                await self._say("250 OK" if self._sender is not None else "501 MAIL FROM:<address>")
            case "RCPT":
                await self._recipient(_address(rest))
            case "DATA":
                await self._data()
            case "NOOP":
                await self._say("250 OK")
            case "QUIT":
                await self._say("221 bye")
                return False
            case _:
                await self._say("502 not known here")
        return True

    async def _recipient(self, address: str | None) -> None:
        if self._sender is None:
            await self._say("503 MAIL first")
        elif not address:
            await self._say("501 RCPT TO:<address>")
        else:
            self._recipients.append(address)
            await self._say("250 OK")

    async def _data(self) -> None:
        if not self._recipients:
            await self._say("503 RCPT first")
            return
        await self._say("354 go on")
        content = bytearray()
        while (line := await self._line()) != b".\r\n":
            content += line.removeprefix(b".")
            if len(content) > LARGEST_MAIL:
                await self._say("552 too large")
                raise ConnectionAbortedError
        number = self._mails.add(self._sender or "", self._recipients, bytes(content))
        self._reset()
        await self._say(f"250 kept as {number}")


def _address(parameter: str) -> str | None:
    found = re.match(r"(?:FROM|TO):\s*<([^>]*)>", parameter, re.IGNORECASE)
    return found[1] if found else None


class Page(BaseHTTPRequestHandler):
    """Answers the lab."""

    mails: Mails

    def do_GET(self) -> None:
        """Answer with the mails."""
        where = urlsplit(self.path)
        if where.path == "/lab/mails":
            after = parse_qs(where.query).get("after", ["0"])[0]
            self._answer(200, self.mails.lines[int(after) if after.isdigit() else 0 :])
        elif where.path == "/lab/health":
            self._answer(200, {"status": "ok"})
        else:
            self._answer(404, {"code": "not_found"})

    def _answer(self, status: int, body: Any) -> None:
        raw = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *arguments: Any) -> None:
        """Keep quiet: the file says what came."""


async def serve(folder: Path, host: str, smtp_port: int, http_port: int) -> None:
    """Take mails until told to end."""
    mails = Mails(folder)

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Conversation(mails, reader, writer).run()

    web = ThreadingHTTPServer((host, http_port), type("SinkPage", (Page,), {"mails": mails}))
    threading.Thread(target=web.serve_forever, daemon=True).start()
    smtp = await asyncio.start_server(converse, host, smtp_port, backlog=256, limit=2**20)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()
    smtp.close()
    web.server_close()


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(description="A mail server that keeps every mail.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--smtp-port", type=int, required=True)
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    asyncio.run(serve(options.folder, options.host, options.smtp_port, options.http_port))


if __name__ == "__main__":
    main()
