"""The other sides, on real sockets: a user service, a mail server, a browser maker's push service."""

import asyncio
import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import http_ece
import jwt
from aiosmtpd.controller import Controller
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from deploy.local.ports import free_ports

USER_KEY = "only-for-tests-notification-user-key"


@dataclass
class Request:
    """What a stub was asked."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Answer = tuple[int, Any]


@contextmanager
def serve(answer: Callable[[Request], Answer]) -> Iterator[str]:
    """Serve HTTP on a free port of this machine; yield the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, value = answer(Request(self.command, self.path, dict(self.headers), body))
            raw = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST = _answer

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@dataclass
class UserService:
    """A user service of a few users; it checks the caller's token as the real one does."""

    keys: dict[str, Any]
    users: dict[int, dict[str, Any]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    fails_with: int | None = None
    # What a test wants done while a request waits for its answer.
    meanwhile: Callable[[], object] = lambda: None
    # Every event of the user service, by sequence; the hook runs before a page of them is answered.
    history: list[dict[str, Any]] = field(default_factory=list)
    before_page: Callable[[], Any] = field(default=lambda: None)

    def answer(self, request: Request) -> Answer:
        """Answer one request."""
        if request.path == "/.well-known/jwks.json":
            return 200, self.keys
        self.meanwhile()
        self.requests.append(request)
        if self.fails_with:
            return self.fails_with, {}
        if request.path.startswith("/internal/v1/events?"):
            self._check_token(request, "events.read")
            return 200, {"items": self._page(parse_qs(urlsplit(request.path).query))}
        parts = request.path.removeprefix("/internal/v1/").split("/")
        self._check_token(request, "tokens.issue" if parts[-1] == "email-token" else "users.read")
        if parts == ["admins"]:
            admins = [user for user in self.users.values() if user["role"] == "admin" and user["active"]]
            return 200, {"items": [{k: u[k] for k in ("user_id", "email", "locale")} for u in admins]}
        user = self.users.get(int(parts[1]))
        if user is None:
            return 404, {"code": "not_found"}
        if parts[-1] == "email-token":
            self.tokens.append(f"secret-token-{len(self.tokens)}-{user['user_id']}")
            return 201, {"token": self.tokens[-1], "email": user["email"]}
        return 200, {**user, "email_verified": False}

    def _page(self, query: dict[str, list[str]]) -> list[dict[str, Any]]:
        self.before_page()
        after, limit, subject = int(query["after"][0]), int(query["limit"][0]), query.get("subject")
        found = [event for event in self.history if event["sequence"] > after]
        return [event for event in found if subject in (None, [event["subject"]])][:limit]

    def _check_token(self, request: Request, scope: str) -> None:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        claims = jwt.decode(token, USER_KEY, algorithms=["HS256"], audience="user-service")
        assert (claims["iss"], claims["scope"]) == ("notification-service", scope)


@dataclass
class Mail:
    """A mail that arrived."""

    to: list[str]
    message: EmailMessage

    def part(self, subtype: str) -> str:
        """Return the text/plain or text/html part."""
        return next(p for p in self.message.walk() if p.get_content_subtype() == subtype).get_content()


class MailSink:
    """A mail server that keeps what it is given, and refuses what a test wants refused."""

    def __init__(self) -> None:
        self.mails: list[Mail] = []
        self.refuse_recipient: str | None = None
        self.refuse_data: str | None = None
        # How long it thinks before and after it has taken a mail.
        self.seconds_before = self.seconds_after = 0.0
        self.port = free_ports(1)[0]
        self._controller: Controller | None = None

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        """Take or refuse a recipient."""
        if self.refuse_recipient:
            return self.refuse_recipient
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """Keep or refuse a mail."""
        if self.refuse_data:
            return self.refuse_data
        await asyncio.sleep(self.seconds_before)
        message = message_from_bytes(envelope.content, policy=policy.default)
        self.mails.append(Mail(list(envelope.rcpt_tos), message))
        await asyncio.sleep(self.seconds_after)
        return "250 OK"

    def start(self) -> None:
        """Open the port."""
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port, ready_timeout=10)
        self._controller.start()

    def stop(self) -> None:
        """Close the port."""
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    def of(self, address: str) -> list[Mail]:
        """Return the mails to one address."""
        return [mail for mail in self.mails if address in mail.to]


class Browser:
    """A browser with a push subscription, and the push service that it chose."""

    def __init__(self, endpoint: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._auth = b"0123456789abcdef"
        point = self._key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        self.subscription = {
            "endpoint": endpoint,
            "expirationTime": None,
            "keys": {"p256dh": _base64(point), "auth": _base64(self._auth)},
        }

    def decrypt(self, body: bytes) -> dict[str, Any]:
        """Read a message as the browser does."""
        plain = http_ece.decrypt(body, private_key=self._key, auth_secret=self._auth, version="aes128gcm")
        message: dict[str, Any] = json.loads(plain)
        return message


class PushService:
    """A push service; paths that a test names answer with another status."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.statuses: dict[str, int] = {}

    def answer(self, request: Request) -> Answer:
        """Take one message."""
        self.requests.append(request)
        return self.statuses.get(request.path, 201), {}


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
