"""Calls to the user service."""

from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import orjson
import urllib3
from pydantic import BaseModel, ValidationError

from chassis import context
from chassis.errors import DependencyAway
from chassis.events import Envelope
from chassis.logs import get_logger
from chassis.tokens import sign_service_token
from notification_service.config import Settings
from notification_service.schemas import AdminData, TokenData, UserData

CONNECT_SECONDS, READ_SECONDS = 0.3, 2.0

log = get_logger(__name__)


M = TypeVar("M", bound=BaseModel)


class UserService:
    """The user service, asked with a token of this service's own."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.user_service_url
        self._secret = settings.notification_user_key.get_secret_value()
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS), retries=False, maxsize=4
        )

    def find_user(self, user_id: int) -> UserData | None:
        """Return a user, or None when there is none of that id."""
        status, body = self._call("GET", f"/internal/v1/users/{user_id}", "users.read")
        if status == 404:
            return None
        return _read(UserData, self._expect(status, body))

    def list_admins(self) -> list[AdminData]:
        """Return every active administrator."""
        body = self._expect(*self._call("GET", "/internal/v1/admins", "users.read"))
        return [_read(AdminData, item) for item in body["items"]]

    def read_events(self, *, after: int, limit: int, subject: str | None = None) -> list[Envelope]:
        """Return the user service's events that follow a sequence, of one subject or of all."""
        query = {"after": after, "limit": limit} | ({} if subject is None else {"subject": subject})
        body = self._expect(*self._call("GET", f"/internal/v1/events?{urlencode(query)}", "events.read"))
        return [_read(Envelope, item) for item in body["items"]]

    def make_email_token(self, user_id: int, purpose: str) -> TokenData | None:
        """Return a fresh single-use token for a mail of that purpose, or None when none is to be had."""
        path = f"/internal/v1/users/{user_id}/email-token"
        status, body = self._call("POST", path, "tokens.issue", {"purpose": purpose})
        if status in (404, 409):
            # No such user any more, or an address that is verified already.
            return None
        return _read(TokenData, self._expect(status, body))

    def _call(self, method: str, path: str, scope: str, sent: Any = None) -> tuple[int, Any]:
        token = sign_service_token(
            self._secret, issuer=Settings.service, audience="user-service", scope=scope
        )
        headers = {
            "Authorization": f"Bearer {token}",
            "X-Request-ID": context.request_id.get(),
            "traceparent": context.traceparent.get(),
        }
        try:
            answer = self._send(method, path, headers, sent)
            return answer.status, orjson.loads(answer.data)
        except (urllib3.exceptions.HTTPError, orjson.JSONDecodeError) as error:
            log.warning("user service does not answer", reason=type(error).__name__)
            raise DependencyAway("user service") from error

    def _send(self, method: str, path: str, headers: dict[str, str], sent: Any) -> urllib3.BaseHTTPResponse:
        ask = partial(
            self._pool.request, method, self._url + path, headers=headers, json=sent, redirect=False
        )
        try:
            return ask()
        except urllib3.exceptions.ProtocolError:
            # A kept connection, closed by the other side meanwhile; to ask twice for a token does no harm.
            return ask()

    def _expect(self, status: int, body: Any) -> Any:
        if status != 200 and status != 201:
            log.warning("user service refuses", status=status, host=urlsplit(self._url).netloc)
            raise DependencyAway("user service")
        return body


def _read(model: type[M], body: Any) -> M:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise DependencyAway("user service") from error
