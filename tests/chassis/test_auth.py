"""Only a live token of ours opens a route, whatever is away."""

import base64
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flask import Flask

from chassis.auth import Gate, Peer
from chassis.cache import make_redis
from chassis.denied import DenyList, allow_user, change_role, deny
from chassis.errors import DependencyAway, Refusal
from chassis.keyset import KeySet
from chassis.tokens import Identity, sign_access_token, sign_service_token
from tests.chassis.conftest import KID
from tests.chassis.sample import Settings

Headers = Callable[..., dict[str, str]]
CLAIMS = {"iss": "ecommerce", "aud": "ecommerce", "sub": "1", "sid": "s", "role": "admin"}


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    made = {**CLAIMS, "iat": now, "exp": now + 900} | changes
    return {name: value for name, value in made.items() if value is not None}


def public_bytes(key: Ed25519PrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


FORGERIES: dict[str, Callable[[Ed25519PrivateKey], str]] = {
    "no signature": lambda key: jwt.encode(claims(), None, "none", {"kid": KID, "typ": "at+jwt"}),
    "HS256 with the public key": lambda key: jwt.encode(
        claims(), public_bytes(key), "HS256", {"kid": KID, "typ": "at+jwt"}
    ),
    "another key": lambda key: sign(Ed25519PrivateKey.generate(), claims()),
    "unknown kid": lambda key: sign(key, claims(), kid="other"),
    "wrong issuer": lambda key: sign(key, claims(iss="evil")),
    "wrong audience": lambda key: sign(key, claims(aud="evil")),
    "expired": lambda key: sign(key, claims(exp=int(time.time()) - 1)),
    "not yet valid": lambda key: sign(key, claims(nbf=int(time.time()) + 60)),
    "no expiry": lambda key: sign(key, claims(exp=None)),
    "no session": lambda key: sign(key, claims(sid=None)),
    "no subject": lambda key: sign(key, claims(sub=None)),
    "a subject that is no id": lambda key: sign(key, claims(sub="admin")),
    "another type": lambda key: sign(key, claims(), typ="svc+jwt"),
    "unknown crit": lambda key: jwt.encode(
        claims(), key, "EdDSA", {"kid": KID, "typ": "at+jwt", "crit": ["x"], "x": 1}
    ),
    "truncated": lambda key: sign(key, claims())[:-8],
    "a changed claim": lambda key: swap_claims(sign(key, claims(role="customer")), claims()),
    "no token": lambda key: "",
    "a service's token": lambda key: sign_service_token(
        "k" * 32, issuer="order-service", audience="sample-service", scope="x"
    ),
}


def sign(key: Ed25519PrivateKey, what: dict[str, Any], kid: str = KID, typ: str = "at+jwt") -> str:
    return jwt.encode(what, key, "EdDSA", {"kid": kid, "typ": typ})


def swap_claims(token: str, what: dict[str, Any]) -> str:
    header, _, signature = token.split(".")
    body = base64.urlsafe_b64encode(json.dumps(what).encode()).decode().rstrip("=")
    return f"{header}.{body}.{signature}"


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_token_is_refused(app: Flask, signing_key: Ed25519PrivateKey, forgery: str) -> None:
    token = FORGERIES[forgery](signing_key)
    answer = app.test_client().delete("/api/v1/notes/1", headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json["code"]) == (401, "unauthorized")


def test_a_right_token_of_the_same_making_is_taken(app: Flask, signing_key: Ed25519PrivateKey) -> None:
    headers = {"Authorization": f"Bearer {sign(signing_key, claims())}"}
    assert app.test_client().delete("/api/v1/notes/1", headers=headers).status_code == 204


def test_an_ended_session_is_refused_within_a_second(app: Flask, bearer: Headers, settings: Settings) -> None:
    headers, client = bearer(session_id="ended"), app.test_client()
    assert client.get("/api/v1/notes/1", headers=headers).status_code == 404
    deny(make_redis(settings), sessions=["ended"])
    time.sleep(1)
    assert client.get("/api/v1/notes/1", headers=headers).status_code == 401
    assert client.get("/api/v1/notes/1", headers=bearer()).status_code == 404


def test_a_denied_user_comes_back_when_allowed(app: Flask, bearer: Headers, settings: Settings) -> None:
    client, redis = app.test_client(), make_redis(settings)
    deny(redis, users=[77])
    assert client.get("/api/v1/notes/1", headers=bearer(user_id=77)).status_code == 401
    allow_user(redis, 77)
    time.sleep(1)
    assert client.get("/api/v1/notes/1", headers=bearer(user_id=77)).status_code == 404


def test_a_role_that_was_lost_opens_nothing_until_it_is_given_back(
    app: Flask, bearer: Headers, settings: Settings
) -> None:
    client, redis = app.test_client(), make_redis(settings)
    admin, customer = bearer(user_id=78, role="admin"), bearer(user_id=78, role="customer")

    def statuses() -> list[int]:
        time.sleep(1)
        return [client.get("/api/v1/notes/1", headers=headers).status_code for headers in (admin, customer)]

    change_role(redis, 78, old="admin", new="customer")
    assert statuses() == [401, 404]
    change_role(redis, 78, old="customer", new="admin")
    assert statuses() == [404, 401]


def test_without_any_key_set_a_token_can_not_be_judged() -> None:
    def away() -> dict[str, Any]:
        raise DependencyAway("user service")

    with pytest.raises(DependencyAway):
        KeySet(away).find(KID)


def test_known_keys_go_on_while_the_user_service_is_away(key_set: dict[str, Any]) -> None:
    answers = [key_set]

    def fetch() -> dict[str, Any]:
        if not answers:
            raise DependencyAway("user service")
        return answers.pop()

    keys = KeySet(fetch)
    keys.find(KID)
    keys._tried_at = float("-inf")
    with pytest.raises(Refusal) as refusal:
        keys.find("other")
    assert refusal.value.status == 401
    assert keys.find(KID)


def test_a_key_that_was_dropped_counts_for_a_minute_at_most(key_set: dict[str, Any]) -> None:
    answers = [{"keys": []}, key_set]
    keys = KeySet(lambda: answers.pop() if answers else pytest.fail("asked again too soon"))
    assert keys.find(KID)
    assert keys.find(KID)
    assert keys._stale_at - time.monotonic() <= 60
    keys._stale_at = time.monotonic()
    with pytest.raises((Refusal, DependencyAway)):
        keys.find(KID)


def test_a_stale_key_set_goes_on_while_the_user_service_is_away(key_set: dict[str, Any]) -> None:
    answers = [key_set]
    asked = []

    def fetch() -> dict[str, Any]:
        asked.append(1)
        if not answers:
            raise DependencyAway("user service")
        return answers.pop()

    keys = KeySet(fetch)
    assert keys.find(KID)
    keys._stale_at = time.monotonic()
    # Who finds it stale asks, the others don't.
    assert [bool(keys.find(KID)) for _ in range(3)] == [True] * 3
    assert len(asked) == 2


def test_nobody_with_a_known_key_waits_for_a_stale_key_set_twice(key_set: dict[str, Any]) -> None:
    answers = [key_set]
    found = []

    def fetch() -> dict[str, Any]:
        if answers:
            return answers.pop()
        # Somebody else comes while this one asks.
        keys._stale_at = time.monotonic()
        other = threading.Thread(target=lambda: found.append(keys.find(KID)))
        other.start()
        other.join(10)
        return key_set

    keys = KeySet(fetch)
    keys.find(KID)
    keys._stale_at = time.monotonic()
    keys.find(KID)
    assert len(found) == 1


def test_unknown_key_ids_do_not_flood_the_user_service(key_set: dict[str, Any]) -> None:
    fetched = []
    keys = KeySet(lambda: fetched.append(1) or key_set)
    for number in range(20):
        with pytest.raises(Refusal):
            keys.find(f"unknown-{number}")
    assert len(fetched) == 1


SECRET = "a-key-of-order-and-sample-32-bytes!"
PEERS = {
    "order-service": Peer(SECRET, frozenset({"write"})),
    "product-service": Peer("", frozenset({"write"})),
}


@pytest.mark.parametrize(
    ("changes", "scope"),
    [
        ({"audience": "user-service"}, "write"),
        ({"issuer": "notification-service"}, "write"),
        ({"issuer": "product-service"}, "write"),
        ({"scope": "admin"}, "admin"),
        ({"scope": "read"}, "write"),
        ({"secret": "another-key-of-order-and-sample-32b"}, "write"),
    ],
)
def test_a_peers_token_opens_only_what_it_names(
    settings: Settings, changes: dict[str, str], scope: str
) -> None:
    gate = Gate(settings, KeySet(dict), DenyList(make_redis(settings)), PEERS)
    right = {"secret": SECRET, "issuer": "order-service", "audience": "sample-service", "scope": "write"}
    gate.check_service("Bearer " + sign_service_token(**right), "write")
    with pytest.raises(Refusal):
        gate.check_service("Bearer " + sign_service_token(**right | changes), scope)


@pytest.mark.parametrize(
    ("typ", "changes"),
    [("JWT", {}), ("at+jwt", {}), ("svc+jwt", {"exp": 4_000_000_000}), ("svc+jwt", {"iat": None})],
)
def test_a_peers_token_is_of_its_type_and_good_for_a_minute(
    settings: Settings, typ: str, changes: dict[str, int | None]
) -> None:
    gate = Gate(settings, KeySet(dict), DenyList(make_redis(settings)), PEERS)
    now = int(time.time())
    claims = {"iss": "order-service", "aud": "sample-service", "scope": "write", "iat": now, "exp": now + 60}
    said = {name: value for name, value in (claims | changes).items() if value is not None}
    token = jwt.encode(said, SECRET, algorithm="HS256", headers={"typ": typ})
    with pytest.raises(Refusal):
        gate.check_service(f"Bearer {token}", "write")


def test_a_users_token_opens_no_internal_route(settings: Settings, signing_key: Ed25519PrivateKey) -> None:
    gate = Gate(settings, KeySet(dict), DenyList(make_redis(settings)), PEERS)
    token = sign_access_token(Identity(1, "s", "admin"), key=signing_key, kid=KID)
    with pytest.raises(Refusal):
        gate.check_service(f"Bearer {token}", "write")
