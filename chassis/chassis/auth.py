"""Who one is: user tokens against the user service's keys, the deny list, service tokens."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jwt
import orjson
import redis
import urllib3
from pydantic import SecretStr

from chassis.cache import redis_needed
from chassis.config import ServiceSettings
from chassis.errors import DependencyAway, unauthorized
from chassis.logs import get_logger

ISSUER = AUDIENCE = "ecommerce"
ALGORITHM = "EdDSA"
ACCESS_SECONDS = 900
SERVICE_TOKEN_SECONDS = 60
SERVICE_TOKEN_TYPE = "svc+jwt"
JWKS_KEY, DENIED_KEY, DENIED_VERSION_KEY = "auth:jwks", "auth:denied", "auth:denied:version"
KEY_REFRESH_SECONDS = 5.0
# Then a key that the user service has dropped, because it was stolen perhaps, is dropped here too.
KEY_SET_SECONDS = 60.0
DENIED_REFRESH_SECONDS = 0.5

log = get_logger(__name__)


@dataclass(frozen=True)
class Identity:
    """Who sent the request, as the access token says."""

    user_id: int
    session_id: str
    role: str

    @property
    def is_admin(self) -> bool:
        """Tell whether this is an administrator."""
        return self.role == "admin"


def sign_access_token(identity: Identity, *, key: Any, kid: str) -> str:
    """Sign a user's access token, valid for 15 minutes."""
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(identity.user_id),
        "sid": identity.session_id,
        "role": identity.role,
        "iat": now,
        "exp": now + ACCESS_SECONDS,
    }
    return jwt.encode(claims, key, algorithm=ALGORITHM, headers={"kid": kid, "typ": "at+jwt"})


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


class DenyList:
    """Ended sessions, disabled users and roles that users have lost.

    Held in memory and refreshed from Redis every 0.5 s. While Redis is away the last copy goes on.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._denied: frozenset[str] = frozenset()
        self._version: str | None = ""
        self._fresh = True
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def holds(self, identity: Identity) -> bool:
        """Tell whether the session has ended, the user is disabled or has another role now."""
        self._start()
        refused = (
            f"session:{identity.session_id}",
            f"user:{identity.user_id}",
            _role(identity.user_id, identity.role),
        )
        return not self._denied.isdisjoint(refused)

    def refresh(self) -> None:
        """Read the list again when its version in Redis has changed."""
        version = self._redis.get(DENIED_VERSION_KEY)
        if version != self._version:
            members = self._redis.zrangebyscore(DENIED_KEY, time.time(), "+inf")
            self._denied, self._version = frozenset(members), version  # type: ignore[arg-type,assignment]

    def _start(self) -> None:
        """Start the refreshing thread at the first use, so that building an app starts none."""
        if self._thread is not None:
            return
        with self._lock:
            if self._thread is None:
                self._try_refresh()
                self._thread = threading.Thread(target=self._loop, name="deny-list", daemon=True)
                self._thread.start()

    def _loop(self) -> None:
        while True:
            time.sleep(DENIED_REFRESH_SECONDS)
            self._try_refresh()

    def _try_refresh(self) -> None:
        try:
            self.refresh()
        except redis.RedisError as error:
            # Once an outage, for this comes twice a second.
            if self._fresh:
                log.warning("deny list not refreshed", reason=type(error).__name__)
            self._fresh = False
        else:
            self._fresh = True


def deny(client: redis.Redis, *, sessions: Sequence[str] = (), users: Sequence[int] = ()) -> None:
    """Refuse these sessions' and users' access tokens everywhere until the last of them has expired."""
    now = time.time()
    members = [f"session:{session}" for session in sessions] + [f"user:{user}" for user in users]
    with redis_needed():
        pipeline = client.pipeline(transaction=True)
        pipeline.zremrangebyscore(DENIED_KEY, "-inf", now)
        if members:
            pipeline.zadd(DENIED_KEY, dict.fromkeys(members, now + ACCESS_SECONDS + 60))
        pipeline.incr(DENIED_VERSION_KEY)
        pipeline.execute()


def allow_user(client: redis.Redis, user_id: int) -> None:
    """Take an enabled user off the deny list."""
    with redis_needed():
        pipeline = client.pipeline(transaction=True)
        pipeline.zrem(DENIED_KEY, f"user:{user_id}")
        pipeline.incr(DENIED_VERSION_KEY)
        pipeline.execute()


def change_role(client: redis.Redis, user_id: int, *, old: str, new: str) -> None:
    """Refuse the user's access tokens of the old role everywhere; those of the new one are good."""
    now = time.time()
    with redis_needed():
        pipeline = client.pipeline(transaction=True)
        pipeline.zadd(DENIED_KEY, {_role(user_id, old): now + ACCESS_SECONDS + 60})
        pipeline.zrem(DENIED_KEY, _role(user_id, new))
        pipeline.incr(DENIED_VERSION_KEY)
        pipeline.execute()


def _role(user_id: int, role: str) -> str:
    return f"role:{user_id}:{role}"


@dataclass(frozen=True)
class Peer:
    """A service that calls this one: the key that both know, and the scopes it may ask for."""

    secret: str = field(repr=False)
    scopes: frozenset[str]

    @classmethod
    def of(cls, secret: SecretStr, *scopes: str) -> "Peer":
        """Make a peer from the settings' key; an empty one lets nobody in."""
        return cls(secret.get_secret_value(), frozenset(scopes))


class Gate:
    """Checks the tokens of one service's requests."""

    def __init__(
        self, settings: ServiceSettings, keys: KeySet, denied: DenyList, peers: Mapping[str, Peer]
    ) -> None:
        self.settings, self.keys, self.denied, self.peers = settings, keys, denied, peers

    def identify(self, authorization: str | None) -> Identity:
        """Return who holds the bearer token, or raise 401."""
        token = _bearer(authorization)
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") != ALGORITHM or header.get("typ") != "at+jwt":
                raise unauthorized()
            claims = jwt.decode(
                token,
                self.keys.find(str(header.get("kid"))),
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                audience=AUDIENCE,
                options={"require": ["iss", "aud", "sub", "sid", "role", "iat", "exp"]},
            )
            identity = Identity(int(claims["sub"]), str(claims["sid"]), str(claims["role"]))
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise unauthorized() from error
        if self.denied.holds(identity):
            raise unauthorized("The session has ended.")
        return identity

    def check_service(self, authorization: str | None, scope: str) -> None:
        """Accept a peer's token for `scope`, or raise 401."""
        token = _bearer(authorization)
        try:
            if jwt.get_unverified_header(token).get("typ") != SERVICE_TOKEN_TYPE:
                raise unauthorized()
            claimed = jwt.decode(token, options={"verify_signature": False}).get("iss")
            peer = self.peers.get(str(claimed))
            if peer is None or not peer.secret:
                raise unauthorized()
            claims = jwt.decode(
                token,
                peer.secret,
                algorithms=["HS256"],
                audience=self.settings.service,
                options={"require": ["iss", "aud", "scope", "iat", "exp"]},
            )
            if claims["exp"] - claims["iat"] > SERVICE_TOKEN_SECONDS:
                raise unauthorized()
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise unauthorized() from error
        if claims["scope"] != scope or scope not in peer.scopes:
            raise unauthorized()


def sign_service_token(secret: str, *, issuer: str, audience: str, scope: str) -> str:
    """Sign a token with which one service calls another, valid for 60 s."""
    now = int(time.time())
    claims = {"iss": issuer, "aud": audience, "scope": scope, "iat": now, "exp": now + SERVICE_TOKEN_SECONDS}
    return jwt.encode(claims, secret, algorithm="HS256", headers={"typ": SERVICE_TOKEN_TYPE})


def _bearer(authorization: str | None) -> str:
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise unauthorized()
    return token.strip()
