"""The user service's public keys: fetching them, and remembering them where it is away."""

import threading
import time
from collections.abc import Callable
from typing import Any

import jwt
import orjson
import redis
import urllib3

from chassis.cache import redis_needed
from chassis.config import ServiceSettings
from chassis.errors import DependencyAway, unauthorized
from chassis.logs import get_logger
from chassis.tokens import ALGORITHM

JWKS_KEY = "auth:jwks"
KEY_REFRESH_SECONDS = 5.0
# Then a key that the user service has dropped, because it was stolen perhaps, is dropped here too.
KEY_SET_SECONDS = 60.0

log = get_logger(__name__)


class KeySet:
    """The user service's public keys: in memory, with a copy in Redis.

    They are loaded anew for an unknown key id, every 5 s at most, and each minute. Where that fails, the last
    ones go on.
    """

    def __init__(self, fetch: Callable[[], dict[str, Any]]) -> None:
        self._fetch = fetch
        self._keys: dict[str, Any] = {}
        self._tried_at = float("-inf")
        self._stale_at = float("-inf")
        self._lock = threading.Lock()

    def find(self, kid: str) -> Any:
        """Return the key of that id; 401 when there is none, 503 when no key set was ever loaded."""
        if kid not in self._keys:
            self.refresh()
        elif time.monotonic() >= self._stale_at:
            self._renew()
        if not self._keys:
            raise DependencyAway("user service")
        if kid not in self._keys:
            raise unauthorized()
        return self._keys[kid]

    def refresh(self) -> None:
        """Load the key set anew, unless that was tried within the last 5 s."""
        with self._lock:
            if time.monotonic() - self._tried_at >= KEY_REFRESH_SECONDS:
                self._load()

    def _renew(self) -> None:
        """Load the key set anew, unless another request is at it: this one has a key and need not wait."""
        if self._lock.acquire(blocking=False):
            try:
                self._load()
            finally:
                self._lock.release()

    def _load(self) -> None:
        self._tried_at = time.monotonic()
        self._stale_at = self._tried_at + KEY_SET_SECONDS
        try:
            document = self._fetch()
        except DependencyAway as error:
            log.warning("key set not refreshed", reason=str(error))
            return
        self._keys = {jwk["kid"]: jwt.PyJWK(jwk, algorithm=ALGORITHM).key for jwk in document["keys"]}


def fetch_key_set(settings: ServiceSettings, client: redis.Redis) -> dict[str, Any]:
    """Fetch the key set from the user service, or else the copy that Redis keeps."""
    url = f"{settings.user_service_url}/.well-known/jwks.json"
    try:
        answer = urllib3.request(
            "GET", url, timeout=urllib3.Timeout(connect=0.3, read=2), retries=False, redirect=False
        )
        if answer.status == 200:
            document: dict[str, Any] = orjson.loads(answer.data)
            remember_key_set(client, document)
            return document
    except urllib3.exceptions.HTTPError as error:
        log.warning("user service did not answer for its keys", reason=type(error).__name__)
    with redis_needed():
        copy = client.get(JWKS_KEY)
    if copy is None:
        raise DependencyAway("user service")
    kept: dict[str, Any] = orjson.loads(copy)
    return kept


def remember_key_set(client: redis.Redis, document: dict[str, Any]) -> None:
    """Keep a copy in Redis, so that a service that starts while the user service is away has it."""
    try:
        client.set(JWKS_KEY, orjson.dumps(document))
    except redis.RedisError as error:
        log.warning("key set not copied to redis", reason=type(error).__name__)
