"""Access tokens and service tokens as a forger makes them, also one who got hold of a key."""

import base64
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.e2e.client import Client
from tests.e2e.suite import Suite
from tests.security.insides import PAIRS, service_token, signing_key

# The order of the group of Ed25519: a signature whose second half is that much larger fits as well.
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493
FAR = 10**10
# Deeper than Python's parser goes, and in base64 still within what a header line may hold.
DEEP = 2000


def encode(value: bytes | Mapping[str, Any] | list[Any]) -> str:
    """Write a part of a token."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def decode(part: str) -> bytes:
    """Read a part of a token."""
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def deep(name: str) -> bytes:
    """Write JSON that is nested deeper than a parser may go."""
    return b'{"' + name.encode() + b'": ' + b"[" * DEEP + b"]" * DEEP + b"}"


@dataclass(frozen=True)
class Forger:
    """Holds a good token of an administrator and one of a customer, the key that signed them, and own."""

    suite: Suite
    good: str
    others: str
    refresh_token: str
    kid: str
    key: Any
    own: Any

    @property
    def header(self) -> dict[str, Any]:
        """The header of the good token."""
        return dict(json.loads(decode(self.good.split(".")[0])))

    @property
    def claims(self) -> dict[str, Any]:
        """What the good token says."""
        return dict(json.loads(decode(self.good.split(".")[1])))

    @property
    def public(self) -> Any:
        """The public half of the signing key, which anybody can fetch."""
        return self.key.public_key()

    def sign(
        self, claims: Any = None, header: Mapping[str, Any] | None = None, *, key: Any = None, **changes: Any
    ) -> str:
        """Sign with EdDSA, by the right key unless told otherwise; a change to None leaves a claim out."""
        said = self.claims | changes if claims is None else claims
        if isinstance(said, dict):
            said = {name: value for name, value in said.items() if value is not None}
        wanted = header if isinstance(header, bytes) else self.header | dict(header or {})
        if isinstance(wanted, dict):
            wanted = {name: value for name, value in wanted.items() if value is not None}
        text = f"{encode(wanted)}.{encode(said)}"
        return f"{text}.{encode((key or self.key).sign(text.encode()))}"

    def sign_hmac(self, secret: bytes, alg: str = "HS256", *, named: str = "") -> str:
        """Sign with a shared secret that is none."""
        text = f"{encode(self.header | {'alg': named or alg})}.{encode(self.claims)}"
        hasher = jwt.get_algorithm_by_name(alg)
        return f"{text}.{encode(hasher.sign(text.encode(), secret))}"

    def unsigned(self, alg: str, signature: str = "") -> str:
        """Claim that no signature is needed."""
        return f"{encode(self.header | {'alg': alg})}.{encode(self.claims)}.{signature}"

    def edited(self, **changes: Any) -> str:
        """Change what the good token says and keep its signature."""
        header, _, signature = self.good.split(".")
        return f"{header}.{encode(self.claims | changes)}.{signature}"

    def pem(self) -> bytes:
        """Write the public key as PEM."""
        kind = serialization.PublicFormat.SubjectPublicKeyInfo
        return bytes(self.public.public_bytes(serialization.Encoding.PEM, kind))

    def own_jwk(self) -> dict[str, str]:
        """Write the forger's own public key as a JWK."""
        x = encode(self.own.public_key().public_bytes_raw())
        return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": self.kid, "alg": "EdDSA", "use": "sig"}

    def malleable(self) -> str:
        """Add the group's order to the second half of the good signature."""
        text, _, signature = self.good.rpartition(".")
        raw = decode(signature)
        larger = int.from_bytes(raw[32:], "little") + GROUP_ORDER
        return f"{text}.{encode(raw[:32] + larger.to_bytes(32, 'little'))}"

    def by_other_family(self, alg: str) -> str:
        """Sign with a fresh key of another kind."""
        keys: dict[str, Callable[[], Any]] = {
            "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
            "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
        }
        headers = {name: value for name, value in self.header.items() if name != "alg"}
        return jwt.encode(self.claims, keys[alg](), algorithm=alg, headers=headers)


def make_forger(suite: Suite, admin: Client, customer: Client) -> Forger:
    """Give a forger all that can be had."""
    kid, key = signing_key(suite)
    assert admin.token is not None
    assert customer.token is not None
    own = Ed25519PrivateKey.generate()
    return Forger(suite, admin.token, customer.token, admin.refresh_token, kid, key, own)


def _jwe(f: Forger) -> str:
    return ".".join(
        map(encode, ({"alg": "dir", "enc": "A256GCM", "kid": f.kid}, b"", b"i" * 12, b"c", b"t" * 16))
    )


def _json_form(f: Forger) -> str:
    protected, payload, signature = f.good.split(".")
    return json.dumps({"payload": payload, "protected": protected, "signature": signature})


# Each forgery of an access token by its name.
TOKENS: dict[str, Callable[[Forger], str]] = {
    "alg none": lambda f: f.unsigned("none"),
    "alg None": lambda f: f.unsigned("None"),
    "alg nOnE with the signature": lambda f: f.unsigned("nOnE", f.good.split(".")[2]),
    "alg empty": lambda f: f.unsigned(""),
    "HS256 with the public key in PEM": lambda f: f.sign_hmac(f.pem()),
    "HS256 with the public key, raw": lambda f: f.sign_hmac(f.public.public_bytes_raw()),
    "HS256 with the public key as in the JWK": lambda f: f.sign_hmac(
        encode(f.public.public_bytes_raw()).encode()
    ),
    "HS512 with the public key in PEM": lambda f: f.sign_hmac(f.pem(), "HS512"),
    "HS256 with no key": lambda f: f.sign_hmac(b""),
    "HS256 named EdDSA": lambda f: f.sign_hmac(f.public.public_bytes_raw(), named="EdDSA"),
    "ES256 with another key": lambda f: f.by_other_family("ES256"),
    "RS256 with another key": lambda f: f.by_other_family("RS256"),
    "another key under the right kid": lambda f: f.sign(key=f.own),
    "right key under an unknown kid": lambda f: f.sign(header={"kid": "nobody"}),
    "no kid": lambda f: f.sign(header={"kid": None}),
    "kid that is a list": lambda f: f.sign(header={"kid": [f.kid]}),
    "kid that is a path": lambda f: f.sign(header={"kid": "../../../dev/null"}, key=f.own),
    "kid that is SQL": lambda f: f.sign(header={"kid": "' OR '1'='1"}, key=f.own),
    "kid with half a character": lambda f: f.sign(header={"kid": "\ud800"}),
    "embedded jwk": lambda f: f.sign(header={"jwk": f.own_jwk()}, key=f.own),
    "embedded jwk without kid": lambda f: f.sign(header={"jwk": f.own_jwk(), "kid": None}, key=f.own),
    "jku elsewhere": lambda f: f.sign(header={"jku": "https://example.com/jwks.json"}, key=f.own),
    "x5u elsewhere": lambda f: f.sign(header={"x5u": "https://example.com/cert.pem"}, key=f.own),
    "x5c of its own": lambda f: f.sign(header={"x5c": ["MIIB"]}, key=f.own),
    "another issuer": lambda f: f.sign(iss="elsewhere"),
    "no issuer": lambda f: f.sign(iss=None),
    "issuer that is a list": lambda f: f.sign(iss=["ecommerce"]),
    "another audience": lambda f: f.sign(aud="elsewhere"),
    "no audience": lambda f: f.sign(aud=None),
    "type JWT": lambda f: f.sign(header={"typ": "JWT"}),
    "no type": lambda f: f.sign(header={"typ": None}),
    "type of a service's token": lambda f: f.sign(header={"typ": "svc+jwt"}),
    "expired": lambda f: f.sign(iat=int(time.time()) - 1000, exp=int(time.time()) - 100),
    "expired just now": lambda f: f.sign(exp=int(time.time()) - 1),
    "no expiry": lambda f: f.sign(exp=None),
    "expiry that is no number": lambda f: f.sign(exp="tomorrow"),
    "expiry beyond numbers": lambda f: f.sign(
        json.dumps(f.claims).replace(str(f.claims["exp"]), "1e400").encode()
    ),
    "not yet valid": lambda f: f.sign(nbf=int(time.time()) + 600),
    "issued in the future": lambda f: f.sign(iat=int(time.time()) + 600),
    "issued at no number": lambda f: f.sign(iat="now"),
    "no time of issue": lambda f: f.sign(iat=None),
    "no subject": lambda f: f.sign(sub=None),
    "subject that is no id": lambda f: f.sign(sub="admin"),
    "subject beyond numbers": lambda f: f.sign(sub="9" * 5000),
    "no session": lambda f: f.sign(sid=None),
    "no role": lambda f: f.sign(role=None),
    "claims that are a list": lambda f: f.sign([f.claims]),
    "claims that are no JSON": lambda f: f.sign(b"\xff{"),
    "claims too deep": lambda f: f.sign(deep("sub"), key=f.own),
    "header too deep": lambda f: f"{encode(deep('alg'))}.{encode(f.claims)}.{encode(bytes(64))}",
    "header that is a list": lambda f: f"{encode([f.header])}.{f.good.split('.', 1)[1]}",
    "header that is no JSON": lambda f: f"{encode(b'nonsense')}.{f.good.split('.', 1)[1]}",
    "unknown crit": lambda f: f.sign(header={"crit": ["exp2"], "exp2": 1}),
    "crit that is no list": lambda f: f.sign(header={"crit": "exp"}),
    "crit of an unencoded payload": lambda f: f.sign(header={"crit": ["b64"], "b64": False}),
    "role edited": lambda f: f.edited(role="superuser"),
    "subject of another": lambda f: f.edited(sub="1"),
    "session of another": lambda f: f.edited(sid="019ab0c4-7f5e-7cc3-98c4-dc0c0c073981"),
    "signature of another token": lambda f: f"{f.good.rpartition('.')[0]}.{f.others.rpartition('.')[2]}",
    "truncated": lambda f: f.good[:-10],
    "signature stripped": lambda f: f.good.rpartition(".")[0],
    "signature empty": lambda f: f.good.rpartition(".")[0] + ".",
    "signature all zero": lambda f: f"{f.good.rpartition('.')[0]}.{encode(bytes(64))}",
    "signature plus the group's order": Forger.malleable,
    "a fourth part": lambda f: f.good + ".e30",
    "JWE": _jwe,
    "JWS in JSON": _json_form,
    "a blank inside": lambda f: f.good[:40] + " " + f.good[40:],
    "another token behind": lambda f: f"{f.good} {f.good}",
    "another token behind a comma": lambda f: f"{f.good},{f.others}",
    "in quotes": lambda f: f'"{f.good}"',
    "refresh token": lambda f: f.refresh_token,
    "bytes beyond ASCII": lambda f: f.good[:-1] + "\xe9",
    "nothing but dots": lambda f: "..",
    "very long": lambda f: "A" * 7000,
    **{
        f"service token by {pair}": lambda f, pair=pair: service_token(f.suite.env, pair, scope="users.read")  # type: ignore[misc]
        for pair in PAIRS
    },
    **{
        f"service token by {pair} for {aim}": lambda f, pair=pair, aim=aim: service_token(  # type: ignore[misc]
            f.suite.env, pair, scope="users.read", audience=aim
        )
        for pair, aim in (("ORDER_PRODUCT_KEY", "ecommerce"), ("NOTIFICATION_USER_KEY", "order-service"))
    },
}

# A good token in a header that does not carry it as it must.
HEADERS: dict[str, Callable[[Forger], list[tuple[str, str]]]] = {
    "scheme Basic": lambda f: [("Authorization", f"Basic {f.good}")],
    "scheme JWT": lambda f: [("Authorization", f"JWT {f.good}")],
    "no scheme": lambda f: [("Authorization", f.good)],
    "no token": lambda f: [("Authorization", "Bearer")],
    "blanks for a token": lambda f: [("Authorization", "Bearer   ")],
    "colon after the scheme": lambda f: [("Authorization", f"Bearer: {f.good}")],
    "two schemes": lambda f: [("Authorization", f"Bearer Bearer {f.good}")],
    "in X-Authorization": lambda f: [("X-Authorization", f"Bearer {f.good}")],
    "in Proxy-Authorization": lambda f: [("Proxy-Authorization", f"Bearer {f.good}")],
    "in a cookie": lambda f: [("Cookie", f"access_token={f.good}; Authorization=Bearer {f.good}")],
    "claimed by X-User-Id": lambda f: [
        ("X-User-Id", "1"),
        ("X-Role", "admin"),
        ("X-Forwarded-User", "admin"),
    ],
}
# Two of them: which one counts would be a matter of taste, so none does.
TWICE: dict[str, Callable[[Forger], list[tuple[str, str]]]] = {
    "two Authorization headers, both good": lambda f: [("Authorization", f"Bearer {f.good}")] * 2,
    "two Authorization headers, the second forged": lambda f: [
        ("Authorization", f"Bearer {f.good}"),
        ("Authorization", f"Bearer {f.unsigned('none')}"),
    ],
    "two Authorization headers, the first forged": lambda f: [
        ("Authorization", f"Bearer {f.unsigned('none')}"),
        ("Authorization", f"Bearer {f.good}"),
    ],
}


@dataclass(frozen=True)
class ServiceForger:
    """Makes what one service might be sent as the token of another; holds their key."""

    suite: Suite
    pair: str
    scope: str
    good_user_token: str

    def sign(
        self,
        *,
        key: str | None = None,
        alg: str = "HS256",
        header: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> str:
        """Sign with the key of the two; a change to None leaves a claim out."""
        issuer, audience = PAIRS[self.pair]
        now = int(time.time())
        claims = {"iss": issuer, "aud": audience, "scope": self.scope, "iat": now, "exp": now + 60} | changes
        said = {name: value for name, value in claims.items() if value is not None}
        secret = self.suite.env[self.pair] if key is None else key
        text = f"{encode({'alg': alg, 'typ': 'svc+jwt'} | dict(header or {}))}.{encode(said)}"
        if alg == "none":
            return f"{text}."
        return f"{text}.{encode(jwt.get_algorithm_by_name(alg).sign(text.encode(), secret.encode()))}"

    def unsound(self, claims: bytes) -> str:
        """Write claims that nobody checked."""
        return f"{encode({'alg': 'HS256', 'typ': 'svc+jwt'})}.{encode(claims)}.{encode(bytes(32))}"


SERVICE_TOKENS: dict[str, Callable[[ServiceForger], str]] = {
    "alg none": lambda f: f.sign(alg="none"),
    "HS512 with the right key": lambda f: f.sign(alg="HS512"),
    "no key": lambda f: f.sign(key=""),
    "another key": lambda f: f.sign(key="another-key-0123456789abcdef0123456789"),
    "key of another pair": lambda f: f.sign(key=next(f.suite.env[pair] for pair in PAIRS if pair != f.pair)),
    "another issuer": lambda f: f.sign(iss="product-service"),
    "no issuer": lambda f: f.sign(iss=None),
    "issuer that is a list": lambda f: f.sign(iss=[PAIRS[f.pair][0]]),
    "another audience": lambda f: f.sign(aud="another-service"),
    "no audience": lambda f: f.sign(aud=None),
    "another scope": lambda f: f.sign(scope="everything"),
    "no scope": lambda f: f.sign(scope=None),
    "scope that is a list": lambda f: f.sign(scope=[f.scope]),
    "several scopes": lambda f: f.sign(scope=f"{f.scope} everything"),
    "expired": lambda f: f.sign(exp=int(time.time()) - 1),
    "no expiry": lambda f: f.sign(exp=None),
    "not yet valid": lambda f: f.sign(nbf=int(time.time()) + 600),
    "issued in the future": lambda f: f.sign(iat=int(time.time()) + 600),
    "good for longer than a minute": lambda f: f.sign(exp=int(time.time()) + FAR),
    "no time of issue": lambda f: f.sign(iat=None),
    "type of an access token": lambda f: f.sign(header={"typ": "at+jwt"}),
    "type JWT": lambda f: f.sign(header={"typ": "JWT"}),
    "unknown crit": lambda f: f.sign(header={"crit": ["exp2"], "exp2": 1}),
    "claims too deep": lambda f: f.unsound(deep("iss")),
    "claims that are a list": lambda f: f.unsound(b"[]"),
    "claims that are no JSON": lambda f: f.unsound(b"\xff{"),
    "a user's token": lambda f: f.good_user_token,
}
