"""Only a token that this service signed opens a route; its keys are kept encrypted."""

import base64
import json
import time
from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import func, select

from chassis.cli import prepare
from chassis.tokens import Identity, sign_access_token
from tests.user.people import Person, refusal
from user_service.models import SigningKey, User
from user_service.services.keys import Vault


def parts(token):
    head, claims, signature = token.split(".")
    return json.loads(decode(head)), json.loads(decode(claims)), signature


def decode(text):
    return base64.urlsafe_b64decode(text + "==")


def encode(document):
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")


def with_claims(customer, **changes):
    head, claims, signature = parts(customer.access_token)
    return f"{encode(head)}.{encode(claims | changes)}.{signature}"


def with_public_key_as_secret(customer):
    head, claims, _ = parts(customer.access_token)
    [jwk] = customer.app.test_client().get("/.well-known/jwks.json").json["keys"][:1]
    return jwt.encode(claims, decode(jwk["x"]), "HS256", {"kid": head["kid"], "typ": "at+jwt"})


def of_another_key(customer):
    head, claims, _ = parts(customer.access_token)
    identity = Identity(int(claims["sub"]), claims["sid"], "admin")
    return sign_access_token(identity, key=Ed25519PrivateKey.generate(), kid=head["kid"])


def unsigned(customer):
    _, claims, _ = parts(customer.access_token)
    return jwt.encode(claims, None, "none", {"typ": "at+jwt"})


FORGERIES = {
    "another role": lambda customer: with_claims(customer, role="admin"),
    "another user": lambda customer: with_claims(customer, sub="1"),
    "a later end": lambda customer: with_claims(customer, exp=int(time.time()) + 9999),
    "no signature": unsigned,
    "the public key as a secret": with_public_key_as_secret,
    "a key of one's own": of_another_key,
    "truncated": lambda customer: customer.access_token[:-4],
    "the refresh token": lambda customer: customer.refresh_token,
    "nothing": lambda customer: "",
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_token_is_refused(customer, anyone, forgery):
    headers = {"Authorization": f"Bearer {FORGERIES[forgery](customer)}"}
    assert refusal(anyone.send("GET", "/profile", headers=headers)) == (401, "unauthorized")


def test_a_services_token_is_no_users(anyone, service):
    assert refusal(anyone.send("GET", "/profile", headers=service())) == (401, "unauthorized")


def test_the_published_keys_hold_no_private_half(app):
    answer = app.test_client().get("/.well-known/jwks.json")
    [key] = answer.json["keys"]
    assert set(key) == {"kty", "crv", "x", "kid", "use", "alg"}
    assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("OKP", "Ed25519", "EdDSA", "sig")


def test_a_private_key_opens_only_with_the_secret_and_its_own_id(app, make_settings):
    with app.app_context():
        kept = app.extensions["sqlalchemy"].session.scalars(select(SigningKey)).one()
    assert Vault("only-for-tests").open(kept.kid, kept.private_key).public_key().public_bytes_raw() == (
        kept.public_key
    )
    assert Vault("another secret").open(kept.kid, kept.private_key) is None
    assert Vault("only-for-tests").open("another id", kept.private_key) is None


def test_replicas_that_start_at_once_make_one_key_and_one_administrator(make_user_app):
    first = make_user_app()
    database = first.config["SETTINGS"].db_name
    replicas = [first, *(make_user_app(database) for _ in range(3))]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(prepare, replicas))
    with first.app_context():
        session = first.extensions["sqlalchemy"].session
        assert session.scalar(select(func.count()).select_from(SigningKey)) == 1
        assert session.scalar(select(func.count()).select_from(User)) == 1
    person = Person(first).register().sign_in()
    for replica in replicas:
        assert Person(replica, access_token=person.access_token).get("/profile").status_code == 200


def test_a_changed_secret_makes_a_new_key_and_the_old_tokens_stay_good(make_user_app):
    before = make_user_app()
    prepare(before)
    person = Person(before).register().sign_in()
    after = make_user_app(before.config["SETTINGS"].db_name, key_encryption_secret="changed since")
    prepare(after)
    assert len(after.test_client().get("/.well-known/jwks.json").json["keys"]) == 2
    assert Person(after, access_token=person.access_token).get("/profile").status_code == 200
    later = Person(after, user=person.user).sign_in()
    assert later.get("/profile").status_code == 200
    assert parts(later.access_token)[0]["kid"] != parts(person.access_token)[0]["kid"]
