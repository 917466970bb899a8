"""Sessions of signed-in people, in Redis: who, since when, and the hash of the one refresh token that counts.

A refresh token is 64 bytes: the session's id, a secret of the session, and a secret of this token.
Who knows the session's secret but not the current token's holds a spent one.
"""

import base64
import binascii
import hashlib
import secrets
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import redis
from uuid_utils.compat import uuid7

from chassis.cache import redis_needed
from chassis.denied import (
    DENIED_KEY,
    DENIED_SECONDS,
    DENIED_VERSION_KEY,
    allow_user,
    change_role,
    deny,
    queue_denials,
)
from chassis.errors import DependencyAway, NotFound
from user_service.errors import InvalidToken, TokenReused
from user_service.services.unanswered import Unanswered

# A session ends when its refresh token was not used for so long.
SESSION_SECONDS = 30 * 24 * 3600
MAX_USER_AGENT = 200
# Of one user, so that nobody fills Redis by signing in; far more than anybody has devices.
MOST_SESSIONS = 1000
DEVICE_FACTS = ("created_at", "used_at", "user_agent", "address")

# KEYS: the session, its user's sessions, the deny list, its version. ARGV: hash of the session's secret, of
# the token's, of the new token's, now, seconds, the session's id, until when its access tokens are refused.
# The second check makes a repeated call (its answer was lost on the way, say) succeed again instead of ending
# the session. An ended session stays, with a hash that no token has, so that every token of it is told apart
# from an unknown one; its access tokens are refused in the same step, for a process may die after any.
ROTATE = """
local kept = redis.call('HMGET', KEYS[1], 'secret', 'token')
if kept[1] ~= ARGV[1] then return 'unknown' end
if kept[2] == ARGV[3] then return 'rotated' end
if kept[2] ~= ARGV[2] then
    redis.call('ZADD', KEYS[3], ARGV[7], 'session:' .. ARGV[6])
    redis.call('INCR', KEYS[4])
    redis.call('HSET', KEYS[1], 'token', '')
    redis.call('ZREM', KEYS[2], ARGV[6])
    return 'reused'
end
redis.call('HSET', KEYS[1], 'token', ARGV[3], 'used_at', ARGV[4])
redis.call('EXPIRE', KEYS[1], ARGV[5])
redis.call('ZADD', KEYS[2], ARGV[4] + ARGV[5], ARGV[6])
redis.call('EXPIRE', KEYS[2], ARGV[5])
return 'rotated'
"""
# How long a client that was answered 503 may take to come again.
REPEAT_SECONDS = 60


@dataclass(frozen=True)
class RefreshToken:
    """What a refresh token consists of."""

    session_id: str
    secret: bytes
    token: bytes

    @classmethod
    def parse(cls, text: str) -> "RefreshToken":
        """Read a token, or raise `InvalidToken`."""
        try:
            raw = base64.b64decode(text.encode("ascii") + b"==", altchars=b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error) as error:
            raise InvalidToken from error
        if len(raw) != 64:
            raise InvalidToken
        return cls(str(uuid.UUID(bytes=raw[:16])), raw[16:32], raw[32:])

    def succeed(self) -> "RefreshToken":
        """Make the token that comes after this one."""
        return RefreshToken(self.session_id, self.secret, secrets.token_bytes(32))

    def __str__(self) -> str:
        raw = uuid.UUID(self.session_id).bytes + self.secret + self.token
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@dataclass(frozen=True)
class SignedInDevice:
    """A session as its owner sees it; `last_used_at` is when its tokens were last renewed."""

    id: str
    created_at: datetime
    last_used_at: datetime
    user_agent: str
    address: str


class SessionStore:
    """The sessions in Redis; each method raises `DependencyAway` when Redis is."""

    def __init__(self, client: redis.Redis, most: int = MOST_SESSIONS) -> None:
        self._redis, self._most = client, most
        self._rotate = client.register_script(ROTATE)
        self._unheard: Unanswered[RefreshToken] = Unanswered(REPEAT_SECONDS)

    def start(self, user_id: int, *, user_agent: str, address: str) -> RefreshToken:
        """Start a session and return its first refresh token; one too many ends the longest unused one."""
        token = RefreshToken(str(uuid7()), secrets.token_bytes(16), secrets.token_bytes(32))
        now = int(time.time())
        facts: dict[Any, Any] = {
            "user_id": user_id,
            "secret": _hash(token.secret),
            "token": _hash(token.token),
            "created_at": now,
            "used_at": now,
            "user_agent": user_agent[:MAX_USER_AGENT],
            "address": address,
        }
        with redis_needed(), self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hset(_session(token.session_id), mapping=facts)
            pipeline.expire(_session(token.session_id), SESSION_SECONDS)
            pipeline.zadd(_sessions(user_id), {token.session_id: now + SESSION_SECONDS})
            pipeline.zremrangebyscore(_sessions(user_id), "-inf", now)
            pipeline.expire(_sessions(user_id), SESSION_SECONDS)
            pipeline.zrange(_sessions(user_id), 0, -self._most - 1)
            *_, surplus = pipeline.execute()
        if surplus:
            self._end(surplus, user_id)
        return token

    def find_user(self, token: RefreshToken) -> int:
        """Return whose session the token is of, or raise `InvalidToken`."""
        with redis_needed():
            user_id, secret = self._redis.hmget(_session(token.session_id), "user_id", "secret")
        if user_id is None or secret != _hash(token.secret):
            raise InvalidToken
        return int(user_id)

    def rotate(self, token: RefreshToken, user_id: int) -> RefreshToken:
        """Spend the token for its successor; one that was spent ends the session.

        Who was answered 503 may come again with the same token, to this process: it gets the successor made
        then, once.
        """
        name = _hash(str(token).encode())
        successor = self._unheard.take(name) or token.succeed()
        try:
            outcome = self._rotate_to(successor, token, user_id)
        except DependencyAway:
            self._unheard.keep(name, successor)
            raise
        if outcome == "reused":
            raise TokenReused
        if outcome != "rotated":
            raise InvalidToken
        return successor

    def _rotate_to(self, successor: RefreshToken, token: RefreshToken, user_id: int) -> str:
        now = int(time.time())
        with redis_needed():
            outcome: Any = self._rotate(
                keys=[_session(token.session_id), _sessions(user_id), DENIED_KEY, DENIED_VERSION_KEY],
                args=[
                    _hash(token.secret),
                    _hash(token.token),
                    _hash(successor.token),
                    now,
                    SESSION_SECONDS,
                    token.session_id,
                    now + DENIED_SECONDS,
                ],
            )
        return str(outcome)

    def list_of(self, user_id: int) -> list[SignedInDevice]:
        """Return the user's sessions, the last used first."""
        ids = self._ids(user_id)
        with redis_needed(), self._redis.pipeline(transaction=False) as pipeline:
            for session_id in ids:
                pipeline.hmget(_session(session_id), *DEVICE_FACTS)
            found = pipeline.execute()
        # Of one that expired at this moment, nothing is there.
        return [_device(session_id, facts) for session_id, facts in zip(ids, found, strict=True) if facts[0]]

    def end_one_of(self, user_id: int, session_id: str) -> None:
        """End one of the user's sessions, or raise `NotFound`."""
        if session_id not in self._ids(user_id):
            raise NotFound
        self.end(session_id, user_id)

    def end(self, session_id: str, user_id: int) -> None:
        """End a session: its access tokens are refused everywhere and it is forgotten, or neither."""
        self._end([session_id], user_id)

    def end_all(self, user_id: int, *, but: str | None = None) -> None:
        """End the user's sessions, all or all but one."""
        self._end([session_id for session_id in self._ids(user_id) if session_id != but], user_id)

    def shut_out(self, user_id: int) -> None:
        """Refuse all that the user holds, everywhere, and end the sessions."""
        deny(self._redis, users=[user_id])
        self.end_all(user_id)

    def let_in(self, user_id: int) -> None:
        """Let a user sign in again who was shut out."""
        allow_user(self._redis, user_id)

    def change_role(self, user_id: int, *, old: str, new: str) -> None:
        """Refuse access tokens of the old role; the sessions go on and get the new one."""
        change_role(self._redis, user_id, old=old, new=new)

    def _end(self, session_ids: Sequence[str], user_id: int) -> None:
        # Also with none to end: whoever calls this relies on Redis being there.
        with redis_needed(), self._redis.pipeline(transaction=True) as pipeline:
            queue_denials(pipeline, sessions=session_ids)
            if session_ids:
                pipeline.delete(*(_session(session_id) for session_id in session_ids))
                pipeline.zrem(_sessions(user_id), *session_ids)
            pipeline.execute()

    def _ids(self, user_id: int) -> list[str]:
        with redis_needed():
            found: Any = self._redis.zrange(_sessions(user_id), time.time(), "+inf", byscore=True)
        return list(reversed(found))


def _device(session_id: str, facts: Sequence[str | None]) -> SignedInDevice:
    created_at, used_at, user_agent, address = (fact or "" for fact in facts)
    return SignedInDevice(session_id, _moment(created_at), _moment(used_at), user_agent, address)


def _moment(seconds: str) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)


def _hash(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()


def _session(session_id: str) -> str:
    return f"session:{session_id}"


def _sessions(user_id: int) -> str:
    return f"sessions:{user_id}"
