"""The keys that sign access tokens: kept encrypted, published as a JWK set, changed without a gap."""

import base64
import os
import secrets
import threading
import time
from datetime import timedelta
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import delete, exists, func, select, text
from sqlalchemy.orm import Session, aliased

from chassis.db import transaction
from chassis.logs import get_logger
from chassis.tokens import ACCESS_SECONDS, ALGORITHM, Identity, sign_access_token
from user_service.models import SigningKey

NONCE_BYTES = 12
KEPT_SECONDS = 5.0
# Every service asks again for a key it does not know after 5 s at most.
PUBLISHED_BEFORE = timedelta(seconds=10)
# The last token of a key is signed by who still held it and is good for its time; a minute for the clocks.
RETIRED_AFTER = timedelta(seconds=ACCESS_SECONDS + KEPT_SECONDS + 60)

log = get_logger(__name__)


class Vault:
    """Encrypts private keys (AES-256-GCM); each is bound to its key id."""

    def __init__(self, secret: str) -> None:
        derived = HKDF(SHA256(), 32, salt=None, info=b"user-service signing keys").derive(secret.encode())
        self._cipher = AESGCM(derived)
        self._derived = derived

    def fingerprint(self, salt: str) -> str:
        """Return the same for the same secret and salt, and what nobody can go back from."""
        return HKDF(SHA256(), 16, salt=salt.encode(), info=b"fingerprint").derive(self._derived).hex()

    def close(self, kid: str, key: Ed25519PrivateKey) -> bytes:
        """Encrypt a private key."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, key.private_bytes_raw(), kid.encode())

    def open(self, kid: str, closed: bytes) -> Ed25519PrivateKey | None:
        """Decrypt a private key, or return None when it was encrypted under another secret."""
        nonce, encrypted = closed[:NONCE_BYTES], closed[NONCE_BYTES:]
        try:
            return Ed25519PrivateKey.from_private_bytes(self._cipher.decrypt(nonce, encrypted, kid.encode()))
        except InvalidTag:
            return None


class Signer:
    """Signs access tokens with the newest key whose time has come, which it holds for some seconds."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._lock = threading.Lock()
        self._held: tuple[str, Ed25519PrivateKey] | None = None
        self._held_since = float("-inf")

    def sign(self, session: Session, identity: Identity) -> str:
        """Sign the access token of one who is signed in."""
        kid, key = self._current(session)
        return sign_access_token(identity, key=key, kid=kid)

    def _current(self, session: Session) -> tuple[str, Ed25519PrivateKey]:
        with self._lock:
            held = self._held if time.monotonic() - self._held_since < KEPT_SECONDS else None
        if held is None:
            held = ensure_signing_key(session, self._vault)
            with self._lock:
                self._held, self._held_since = held, time.monotonic()
        return held


def ensure_signing_key(session: Session, vault: Vault) -> tuple[str, Ed25519PrivateKey]:
    """Return the newest signing key, made when there is none that this service's secret opens."""
    with transaction(session) as here:
        if found := _open_newest(here, vault):
            return found
        # One maker at a time; the second finds what the first has made.
        _lock_table(here)
        return _open_newest(here, vault) or _make(here, vault, func.clock_timestamp())


def rotate_keys(session: Session, vault: Vault) -> str:
    """Publish a new key, which signs 10 s later, and return its id."""
    with transaction(session) as here:
        _lock_table(here)
        kid, _ = _make(here, vault, func.clock_timestamp() + PUBLISHED_BEFORE)
    return kid


def retire_keys(session: Session) -> list[str]:
    """Drop the keys whose last token has expired, and return their ids."""
    newer = aliased(SigningKey)
    replaced = exists().where(
        newer.signs_from > SigningKey.signs_from, newer.signs_from < func.clock_timestamp() - RETIRED_AFTER
    )
    with transaction(session) as here:
        retired = list(here.scalars(delete(SigningKey).where(replaced).returning(SigningKey.kid)))
    if retired:
        log.info("signing keys retired", kids=retired)
    return retired


def _lock_table(session: Session) -> None:
    session.execute(text("LOCK TABLE signing_keys IN SHARE ROW EXCLUSIVE MODE"))


def _open_newest(session: Session, vault: Vault) -> tuple[str, Ed25519PrivateKey] | None:
    due = select(SigningKey).where(SigningKey.signs_from <= func.clock_timestamp())
    newest = session.scalar(due.order_by(SigningKey.signs_from.desc()).limit(1))
    if newest is None:
        return None
    key = vault.open(newest.kid, newest.private_key)
    if key is None:
        log.warning("signing key is encrypted under another secret, making a new one", kid=newest.kid)
        return None
    return newest.kid, key


def _make(session: Session, vault: Vault, signs_from: Any) -> tuple[str, Ed25519PrivateKey]:
    kid, key = secrets.token_urlsafe(12), Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    closed = vault.close(kid, key)
    session.add(SigningKey(kid=kid, public_key=public, private_key=closed, signs_from=signs_from))
    log.info("signing key made", kid=kid)
    return kid, key


def read_key_set(session: Session) -> dict[str, Any]:
    """Return the JWK set of the public keys, newest first."""
    with transaction(session) as here:
        keys = here.execute(
            select(SigningKey.kid, SigningKey.public_key).order_by(SigningKey.created_at.desc())
        )
        return {"keys": [_jwk(kid, public) for kid, public in keys]}


def _jwk(kid: str, public: bytes) -> dict[str, str]:
    x = base64.urlsafe_b64encode(public).decode().rstrip("=")
    return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "use": "sig", "alg": ALGORITHM}
