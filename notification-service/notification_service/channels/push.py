"""Web Push, encrypted and signed by pywebpush, sent over connections that reach public addresses only."""

import http.client
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit
from uuid import UUID

import orjson
import urllib3

from notification_service.channels.deadline import Address, Deadline, find_addresses
from notification_service.config import Settings
from notification_service.errors import PermanentFailure, SubscriptionGone, TemporaryFailure

# For all waits of one message to one browser, from the name to the answer.
SEND_SECONDS = 10.0
KEPT_SECONDS = 24 * 3600
GONE = frozenset({404, 410})
BUSY = frozenset({408, 425, 429})


@dataclass(frozen=True)
class Target:
    """A browser's subscription."""

    endpoint: str
    p256dh: str
    auth: str


@dataclass(frozen=True)
class PushMessage:
    """What the browser's service worker shows."""

    id: UUID
    title: str
    body: str
    url: str | None = None

    def encode(self) -> bytes:
        """Write it as the JSON that a service worker reads."""
        return orjson.dumps({"id": str(self.id), "title": self.title, "body": self.body, "url": self.url})


class Pusher(Protocol):
    """What sends one push message to one browser."""

    def send(self, private_key: str, target: Target, message: PushMessage) -> None: ...


class WebPusher:
    """Speaks to the push services of browser makers."""

    def __init__(self, settings: Settings) -> None:
        self._allow_private = settings.push_allow_private
        self._subject = settings.vapid_subject or f"mailto:postmaster@{settings.mail_domain}"

    def send(self, private_key: str, target: Target, message: PushMessage) -> None:
        """Send one message to one browser, or raise a `DeliveryError`."""
        check_endpoint(target.endpoint, allow_private=self._allow_private)
        body, headers = self._seal(private_key, target, message)
        with Deadline(SEND_SECONDS) as deadline:
            try:
                status = self._post(target.endpoint, body, headers, deadline)
            except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
                if deadline.is_over:
                    raise TemporaryFailure("the push service took too long") from error
                reason = f"no connection to the push service: {type(error).__name__}"
                raise TemporaryFailure(reason) from error
        _judge(status)

    def _post(self, endpoint: str, body: bytes, headers: dict[str, str], deadline: Deadline) -> int:
        """Post it on a connection of its own, and return the answer's status."""
        url = urllib3.util.parse_url(endpoint)
        find = find_addresses if self._allow_private else public_addresses
        kind = _TlsPool if url.scheme == "https" else _PlainPool
        with kind(
            url.host or "", url.port, timeout=SEND_SECONDS, retries=False, deadline=deadline, find=find
        ) as pool:
            # The answer's body is left unread: nobody knows how long a stranger makes it.
            answer = pool.urlopen(
                "POST", url.request_uri, body=body, headers=headers, redirect=False, preload_content=False
            )
            answer.close()
            return int(answer.status)

    def _seal(self, private_key: str, target: Target, message: PushMessage) -> tuple[bytes, dict[str, str]]:
        # Imported by who sends alone: it brings two HTTP libraries along.
        import pywebpush
        from py_vapid import Vapid02

        keys = {"p256dh": target.p256dh, "auth": target.auth}
        try:
            sealed = pywebpush.WebPusher({"endpoint": target.endpoint, "keys": keys}).encode(message.encode())
        except (pywebpush.WebPushException, ValueError) as error:
            raise PermanentFailure("the subscription's keys can't be used") from error
        parts = urlsplit(target.endpoint)
        claims = {"aud": f"{parts.scheme}://{parts.netloc}", "sub": self._subject}
        signed: dict[str, str] = Vapid02.from_string(private_key).sign(claims)
        # The push service drops what it has already under the same topic, so a second copy shows once.
        topic = message.id.hex
        headers = {"Content-Encoding": "aes128gcm", "TTL": str(KEPT_SECONDS), "Topic": topic, **signed}
        return sealed["body"], headers


def check_endpoint(endpoint: str, *, allow_private: bool) -> None:
    """Refuse what no browser's push service is at: a stranger must not aim our requests."""
    parts = urlsplit(endpoint)
    if not allow_private and (parts.scheme != "https" or parts.port not in (None, 443)):
        raise PermanentFailure("a push endpoint must be https on port 443")
    if not allow_private and not is_public_name(parts.hostname or ""):
        raise PermanentFailure("a push endpoint must be on the public internet")


def _judge(status: int) -> None:
    if 200 <= status < 300:
        return
    reason = f"the push service said {status}"
    if status in GONE:
        raise SubscriptionGone(reason)
    if status in BUSY or status >= 500:
        raise TemporaryFailure(reason)
    raise PermanentFailure(reason)


class PrivateAddress(OSError):
    """The endpoint's name leads to an address that is not public."""


class _Timed:
    """Connects to the very addresses that were found fit, so that a name can't change in between."""

    def __init__(
        self, *args: Any, deadline: Deadline, find: Callable[[str, int], list[Address]], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._deadline, self._find = deadline, find

    def _new_conn(self: Any) -> Any:
        try:
            addresses = self._find(self._dns_host, self.port)
            if not addresses:
                raise PrivateAddress("the push endpoint has no public address")
            return self._deadline.connect(addresses, at_most=SEND_SECONDS)
        except OSError as error:
            raise urllib3.exceptions.NewConnectionError(self, str(error)) from error


class _PlainConnection(_Timed, urllib3.connection.HTTPConnection):
    """HTTP, for tests alone."""


class _TlsConnection(_Timed, urllib3.connection.HTTPSConnection):
    """HTTPS."""


class _PlainPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def public_addresses(host: str, port: int) -> list[tuple[str, int]]:
    """Resolve a name, leaving out every address that is not on the public internet."""
    return [address for address in find_addresses(host, port) if is_public(address[0])]


def is_public_name(host: str) -> bool:
    """Tell whether a host may be public; a name is resolved only when something is sent to it."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return "." in host.rstrip(".")
    return is_public(host)


# By which networks without IPv4 reach it.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def _wrapped(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that an IPv6 address stands for, if it does."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)


def is_public(address: str) -> bool:
    """Tell whether an address is on the public internet, also one wrapped in IPv6."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        parsed = _wrapped(parsed) or parsed
    return parsed.is_global and not parsed.is_multicast
