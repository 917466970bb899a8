"""What goes over the wire: requests, answers, and what other services tell."""

import base64
import binascii
from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, WithJsonSchema

from chassis.api import View
from chassis.reading import Body, Query
from notification_service.recipients import PHONE, is_email

Locale = Literal["zh-CN", "en"]
Channel = Literal["email", "sms", "push"]
Status = Literal["queued", "sending", "sent", "failed", "suppressed"]


def _email(text: str) -> str:
    if not is_email(text):
        raise ValueError("must be an e-mail address")
    return text


def _one_line(text: str) -> str:
    if any(ord(letter) < 32 or 127 <= ord(letter) < 160 or letter in "\u2028\u2029" for letter in text):
        raise ValueError("must be one line without control characters")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


def _web_address(text: str) -> str:
    try:
        parts = urlsplit(text)
        fine = parts.scheme in ("http", "https") and parts.hostname and not parts.username and parts.port != 0
    except ValueError:
        fine = False
    if not fine or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be an absolute URL")
    return text


def _point(text: str) -> str:
    if len(_decoded(text)) != 65 or _decoded(text)[0] != 4:
        raise ValueError("must be an uncompressed P-256 point in base64url")
    return text


def _secret(text: str) -> str:
    if len(_decoded(text)) != 16:
        raise ValueError("must be 16 bytes in base64url")
    return text


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(
            text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), altchars=b"-_", validate=True
        )
    except (binascii.Error, ValueError):
        return b""


Email = Annotated[
    str,
    Field(max_length=254),
    AfterValidator(_email),
    WithJsonSchema({"type": "string", "format": "email", "maxLength": 254}),
]
Phone = Annotated[str, Field(pattern=PHONE, examples=["+8613800138000"])]
Line = Annotated[
    str, Field(min_length=1, max_length=200), AfterValidator(_one_line), AfterValidator(_not_blank)
]
Url = Annotated[str, Field(min_length=1, max_length=2048), AfterValidator(_web_address)]


class EmailIn(Body):
    """A mail to send."""

    to: Email
    subject: Line
    body: Annotated[str, Field(min_length=1, max_length=100_000), AfterValidator(_not_blank)]
    html: str | None = Field(default=None, min_length=1, max_length=500_000)


class SmsIn(Body):
    """A text message to send."""

    to: Phone
    body: Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_not_blank)]


class PushIn(Body):
    """A message to all browsers that a user has subscribed."""

    user_id: int = Field(ge=1, le=999_999_999_999_999_999)
    # Push services take 4096 bytes, encrypted; a character is up to four.
    title: Annotated[
        str, Field(min_length=1, max_length=100), AfterValidator(_one_line), AfterValidator(_not_blank)
    ]
    body: Annotated[str, Field(min_length=1, max_length=700), AfterValidator(_not_blank)]
    url: Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_web_address)] | None = None


class Keys(Body):
    """The browser's keys, by which messages to it are encrypted."""

    p256dh: Annotated[str, Field(max_length=100), AfterValidator(_point)]
    auth: Annotated[str, Field(max_length=50), AfterValidator(_secret)]


class SubscriptionIn(Body):
    """A browser's `PushSubscription`, as its `toJSON()` gives it."""

    endpoint: Url
    keys: Keys
    # In the standard's words; browsers send null.
    expirationTime: int | float | None = None


class SubscriptionGoneIn(Body):
    """The subscription to end; further members of a `PushSubscription` may come along."""

    model_config = ConfigDict(extra="ignore")

    endpoint: Url


class PreferencesIn(Body):
    """Which optional messages to get."""

    email: bool
    sms: bool
    push: bool


class HistoryQuery(Query):
    """Filters and page of the history."""

    limit: int = Field(default=20, ge=1, le=100)
    cursor: str | None = None
    channel: Channel | None = None
    status: Status | None = None
    user_id: int | None = Field(default=None, ge=1, le=999_999_999_999_999_999)
    event_type: str | None = Field(default=None, max_length=255)


class Receipt(View):
    """A message that was taken."""

    id: UUID
    status: Status


class NotificationView(View):
    """A notification."""

    id: UUID
    user_id: int | None
    channel: Channel
    recipient: str
    template: str
    subject: str
    status: Status
    attempts: int
    last_error: str | None
    event_id: UUID | None
    event_type: str | None
    created_at: datetime
    sent_at: datetime | None


class HistoryPage(View):
    """One page of notifications, newest first."""

    items: list[NotificationView]
    next_cursor: str | None


class PreferencesView(View):
    """Which optional messages a user gets."""

    email: bool
    sms: bool
    push: bool


class SubscriptionView(View):
    """A browser that gets push messages."""

    endpoint: str
    created_at: datetime


class PublicKeyView(View):
    """The VAPID key, as `applicationServerKey` of `pushManager.subscribe` takes it."""

    public_key: str


class EventsIn(Body):
    """Which events to tell about."""

    event_ids: Annotated[list[Annotated[UUID, Field(strict=False)]], Field(max_length=500)]


class EventIds(View):
    """Events, by their ids."""

    event_ids: list[UUID]


class Told(BaseModel):
    """What another service tells; further fields are left aside."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class UserData(Told):
    """A user: `data` of `user.*` events, and the user service's answer for one."""

    user_id: int
    username: str
    email: str
    phone: str | None
    locale: Locale
    role: str
    active: bool


class TokenData(Told):
    """A token for a mail to this address."""

    token: str = Field(repr=False)
    email: str


class AdminData(Told):
    """An active administrator."""

    user_id: int = Field(validation_alias=AliasChoices("user_id", "id"))
    email: str
    locale: Locale
