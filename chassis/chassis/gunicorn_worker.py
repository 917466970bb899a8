"""Gunicorn's worker of threads, which refuses what is no proper request with a problem document too.

On SIGTERM it takes itself out: its port refuses connections at once, so that Nginx and the other services
turn to another replica before they have sent anything, and every connection that was made before is served.
"""

import contextlib
import ctypes
import re
import socket
import struct
import time
from typing import Any

import orjson
from gunicorn import util
from gunicorn.http import errors, message
from gunicorn.http.parser import RequestParser
from gunicorn.workers.gthread import ThreadWorker

from chassis import context
from chassis.errors import PROBLEM_JSON, problem
from chassis.logs import get_logger

MALFORMED = (400, "bad_request", "The request can't be understood.")
REFUSALS = {
    errors.LimitRequestLine: (414, "uri_too_long", "The address is too long."),
    errors.LimitRequestHeaders: (431, "headers_too_large", "The headers are too large."),
    errors.UnsupportedTransferCoding: (501, "not_implemented", "The request uses what is not known here."),
}
# These two are called parse errors, but it is the app that made the header.
OURS = (errors.InvalidResponseHeader, errors.InvalidResponseHeaderName)
BROKEN = (500, "internal_error", "Something went wrong on our side.")

SENT_ID = re.compile(rb"^x-request-id:[ \t]*([^\r\n]*?)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)

# What is taken of a body that nobody wants to read, and for how long: a thread waits meanwhile.
MOST_DRAINED, DRAIN_SECONDS = 8 * 1024 * 1024, 5.0
# How long the next piece of a body may take that the app reads, as at Nginx (client_body_timeout).
PIECE_SECONDS = 15.0

# How long a handshake that has begun may take to end, between machines that share a network.
HANDSHAKE_SECONDS = 0.05
# Linux's numbers, and a packet filter (BPF) that drops TCP packets with the flag SYN: load the byte of the
# flags; is SYN set?; then keep nothing; else keep all.
SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
DROP_SYN = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
)

log = get_logger(__name__)


class Worker(ThreadWorker):
    """Answers in JSON where the app is not asked: Gunicorn's own answers are pages of HTML."""

    def load_wsgi(self) -> None:
        """Load the app, and let it read bodies in its own terms."""
        super().load_wsgi()
        app: Any = self.wsgi  # type: ignore[has-type]
        RequestParser.mesg_class = Request

        def with_body(environ: dict[str, Any], start_response: Any) -> Any:
            body = environ["wsgi.input"]

            def start(*arguments: Any) -> Any:
                # Gunicorn decides on keeping the connection when a request begins, which may be long ago.
                if not self.alive:
                    start_response.__self__.force_close()
                return start_response(*arguments)

            try:
                return app(environ, start)
            finally:
                if not body.drain():
                    start_response.__self__.force_close()

        self.wsgi = with_body

    def enqueue_req(self, conn: Any) -> None:
        """Have a thread take a connection on which something came, and note when it came."""
        conn.arrived_at = time.monotonic()
        super().enqueue_req(conn)

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer a request whose body is waited for within limits."""
        context.arrived_at.set(conn.arrived_at)
        source = conn.parser.unreader
        if not isinstance(source.sock, BoundedSource):
            source.sock = BoundedSource(source.sock)
        req.body = BodyReader(req.body, source.sock)
        return super().handle_request(req, conn)

    def init_process(self) -> None:
        """Start to serve, also on a port that a worker before has filtered."""
        for listener in self.sockets:
            with contextlib.suppress(OSError):
                listener.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
        super().init_process()

    def set_accept_enabled(self, enabled: bool) -> None:
        """Take connections or take none for now; for good once the worker is told to end."""
        super().set_accept_enabled(enabled)
        if not self.alive:
            self._close_port()

    def _close_port(self) -> None:
        """Take every connection that was made, and have all later ones refused.

        Closing resets what nobody has accepted, and more comes while we look, so no handshake may begin
        any more before the last look: whoever tries finds the port closed when trying again.
        """
        for listener in self.sockets:
            with contextlib.suppress(OSError):
                drop_handshakes(listener)
        time.sleep(HANDSHAKE_SECONDS)
        for listener in self.sockets:
            taken = -1
            while taken != self.nr_conns:
                taken = self.nr_conns
                self.accept(listener)
            listener.close()

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        """Refuse a request that can't be read, or one that broke outside the app, and close."""
        with context.bind_context(request_id=getattr(exc, "request_id", None), traceparent=None):
            if isinstance(exc, errors.ParseException) and not isinstance(exc, OURS):
                status, code, detail = REFUSALS.get(type(exc), MALFORMED)
                log.info("request refused unread", status=status, reason=type(exc).__name__)
            else:
                status, code, detail = BROKEN
                log.error("request failed outside the app", exc_info=exc)
            answer = write_problem(status, code, detail)
        try:
            util.write_nonblock(client, answer)
        except OSError as gone:
            log.info("nobody waits for the refusal", reason=type(gone).__name__)


def drop_handshakes(listener: Any) -> None:
    """Let no new connection be made, and those that are under way come to an end."""
    program = ctypes.create_string_buffer(DROP_SYN)
    described = struct.pack("@HP", len(DROP_SYN) // 8, ctypes.addressof(program))
    listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, described)


class Request(message.Request):
    """A request that tells its id also where its head can't be read, for Nginx answers with the same one."""

    def parse_headers(self, data: bytes, from_trailer: bool = False) -> Any:
        """Read the headers, or note on the error under which id the request was sent."""
        try:
            return super().parse_headers(data, from_trailer)
        except errors.ParseException as error:
            sent = SENT_ID.search(data)
            error.request_id = sent[1].decode("latin-1") if sent else None
            raise


class BoundedSource:
    """A connection to read from, which waits for a piece no longer than said, nor beyond a moment."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.piece_seconds: float | None = None
        self.ends = float("inf")

    def recv(self, size: int) -> bytes:
        """Receive what has come, or raise `TimeoutError`."""
        left = self.ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if self.piece_seconds is None:
            data: bytes = self._connection.recv(size)
            return data
        before = self._connection.gettimeout()
        self._connection.settimeout(min(left, self.piece_seconds))
        try:
            data = self._connection.recv(size)
        finally:
            self._connection.settimeout(before)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class BodyReader:
    """A request's body, whose broken chunks are an error that Werkzeug knows: the client's, a 400."""

    def __init__(self, body: Any, source: BoundedSource) -> None:
        self._body, self._source = body, source

    @property
    def failed(self) -> bool:
        """Tell whether it could not be read, so that nothing after it can be either."""
        return bool(self._body.failed)

    def read(self, size: int = -1) -> bytes:
        """Read so many bytes, or all."""
        self._source.piece_seconds = PIECE_SECONDS
        try:
            data: bytes = self._body.read(size if size >= 0 else None)
        except errors.ParseException as error:
            raise ValueError("the body's chunks can't be read") from error
        finally:
            self._source.piece_seconds = None
        return data

    def drain(self) -> bool:
        """Take what the app left unread, within reason; tell whether that was all.

        Who is still sending would not hear the answer.
        """
        left = MOST_DRAINED
        self._source.ends = time.monotonic() + DRAIN_SECONDS
        try:
            while left > 0 and not self.failed:
                piece = self.read(min(left, 65536))
                if not piece:
                    return True
                left -= len(piece)
        except (OSError, ValueError):
            log.info("rest of a body did not come")
        finally:
            self._source.ends = float("inf")
        return False


def write_problem(status: int, code: str, detail: str) -> bytes:
    """Write a whole HTTP answer that holds a problem document."""
    document = problem(status, code, detail)
    body = orjson.dumps(document)
    lines = (
        f"HTTP/1.1 {status} {document['title']}",
        "Connection: close",
        f"Content-Type: {PROBLEM_JSON}",
        f"Content-Length: {len(body)}",
        f"X-Request-ID: {document['request_id']}",
        "X-Content-Type-Options: nosniff",
        "Cache-Control: no-store",
    )
    return "\r\n".join((*lines, "", "")).encode() + body
