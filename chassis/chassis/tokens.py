"""What a token says, and signing it: a user's access token, a service's token for another one."""

import time
from dataclasses import dataclass
from typing import Any

import jwt

ISSUER = AUDIENCE = "ecommerce"
ALGORITHM = "EdDSA"
ACCESS_SECONDS = 900
SERVICE_TOKEN_SECONDS = 60
SERVICE_TOKEN_TYPE = "svc+jwt"


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


def sign_service_token(secret: str, *, issuer: str, audience: str, scope: str) -> str:
    """Sign a token with which one service calls another, valid for 60 s."""
    now = int(time.time())
    claims = {"iss": issuer, "aud": audience, "scope": scope, "iat": now, "exp": now + SERVICE_TOKEN_SECONDS}
    return jwt.encode(claims, secret, algorithm="HS256", headers={"typ": SERVICE_TOKEN_TYPE})
