"""Who one is: users by their access tokens, services by the keys they share with this one."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import jwt
from pydantic import SecretStr

from chassis.config import ServiceSettings
from chassis.denied import DenyList
from chassis.errors import unauthorized
from chassis.keyset import KeySet
from chassis.tokens import (
    ALGORITHM,
    AUDIENCE,
    ISSUER,
    SERVICE_TOKEN_SECONDS,
    SERVICE_TOKEN_TYPE,
    Identity,
)


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


def _bearer(authorization: str | None) -> str:
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise unauthorized()
    return token.strip()
