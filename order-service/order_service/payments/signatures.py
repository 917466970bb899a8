"""Signed webhooks: `t=<unix seconds>,v1=<hex HMAC-SHA256 of "<t>.<raw body>">`."""

import hashlib
import hmac
import re
import time

from order_service.errors import InvalidSignature

WINDOW_SECONDS = 300

_HEADER = re.compile(r"t=([0-9]{1,12}),\s*v1=([0-9a-fA-F]{64})", re.ASCII)


def sign(secret: str, body: bytes, at: int) -> str:
    """Return the header that proves that the holder of the secret said this then."""
    return f"t={at},v1={_digest(secret, body, str(at))}"


def check_signature(secret: str, body: bytes, header: str) -> None:
    """Raise `InvalidSignature` unless the holder of the secret signed this body within the window."""
    found = _HEADER.fullmatch(header)
    if found is None or abs(time.time() - int(found[1])) > WINDOW_SECONDS:
        raise InvalidSignature
    if not hmac.compare_digest(_digest(secret, body, found[1]), found[2].lower()):
        raise InvalidSignature


def _digest(secret: str, body: bytes, at: str) -> str:
    return hmac.new(secret.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()
