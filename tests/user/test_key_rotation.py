"""A new signing key takes over without a good token being refused anywhere."""

import jwt
import pytest
from sqlalchemy import text

from chassis.auth import Gate
from chassis.cache import make_redis
from chassis.cli import prepare
from chassis.denied import DenyList
from chassis.errors import Refusal
from chassis.keyset import JWKS_KEY, KeySet
from chassis.tokens import ACCESS_SECONDS
from tests.user.people import Person


def kid_of(person):
    return jwt.get_unverified_header(person.access_token)["kid"]


def published(app):
    return [key["kid"] for key in app.test_client().get("/.well-known/jwks.json").json["keys"]]


class Shop:
    """A user service whose time can be moved, and another service that checks its tokens."""

    def __init__(self, app):
        self.app = app
        settings = app.config["SETTINGS"]
        self.fetched = 0
        self.gate = Gate(settings, KeySet(self._fetch), DenyList(make_redis(settings)), {})
        self.person = Person(app).register().sign_in()

    def _fetch(self):
        self.fetched += 1
        return self.app.test_client().get("/.well-known/jwks.json").json

    def rotate(self):
        result = self.app.test_cli_runner().invoke(args=["keys", "rotate"])
        assert result.exit_code == 0, result.output
        return result.output.split()[0]

    def pass_time(self, seconds):
        """Let the keys be older, what is held in memory too."""
        with self.app.app_context():
            session = self.app.extensions["sqlalchemy"].session
            move = text("UPDATE signing_keys SET signs_from = signs_from - :s * interval '1 s'")
            session.execute(move, {"s": seconds})
            session.commit()
        self.app.extensions["tools"].signer._held_since -= seconds
        self.gate.keys._tried_at -= seconds

    def retire(self):
        [job] = [job for job in self.app.extensions["worker"].jobs if job.name == "retire keys"]
        with self.app.app_context():
            return job.run(self.app.extensions["sqlalchemy"].session)

    def accepts(self, person):
        return self.gate.identify(f"Bearer {person.access_token}").user_id == person.user["id"]


@pytest.fixture
def shop(make_user_app):
    app = make_user_app()
    prepare(app)
    return Shop(app)


def test_the_new_key_is_published_at_once_and_signs_ten_seconds_later(shop):
    old = kid_of(shop.person)
    new = shop.rotate()
    assert published(shop.app) == [new, old]
    assert kid_of(shop.person.sign_in()) == old
    shop.pass_time(9)
    assert kid_of(shop.person.sign_in()) == old
    shop.pass_time(6)
    assert kid_of(shop.person.sign_in()) == new


def test_another_service_takes_every_token_all_the_while(shop):
    people = [shop.person]
    assert shop.accepts(shop.person)
    # The worst moment: it has just asked, and must not ask again for 5 s.
    with pytest.raises(Refusal):
        shop.gate.keys.find("unknown")
    shop.rotate()
    for _ in range(5):
        people.append(shop.person.sign_in())
        assert all(shop.accepts(person) for person in people)
        shop.pass_time(4)
    assert len({kid_of(person) for person in people}) == 2
    assert shop.fetched <= 3


def test_the_old_key_goes_after_its_last_token(shop):
    old = kid_of(shop.person)
    new = shop.rotate()
    shop.pass_time(10 + ACCESS_SECONDS)
    assert shop.retire() == []
    assert shop.accepts(shop.person)
    shop.pass_time(70)
    assert shop.retire() == [old]
    assert published(shop.app) == [new]
    assert shop.accepts(shop.person.sign_in())


def test_the_only_key_stays_for_ever(shop):
    shop.pass_time(10**7)
    assert shop.retire() == []


def test_of_two_rotations_in_a_row_the_last_counts(shop):
    old, first, second = kid_of(shop.person), shop.rotate(), shop.rotate()
    shop.pass_time(20)
    assert kid_of(shop.person.sign_in()) == second
    shop.pass_time(10 + ACCESS_SECONDS + 70)
    assert set(shop.retire()) == {old, first}


def test_the_copy_in_redis_has_the_new_key_at_once(shop):
    new = shop.rotate()
    assert new in make_redis(shop.app.config["SETTINGS"]).get(JWKS_KEY)


def test_without_redis_a_key_is_rotated_too(make_user_app):
    app = make_user_app(redis_port=1)
    prepare(app)
    result = app.test_cli_runner().invoke(args=["keys", "rotate"])
    assert result.exit_code == 0
    assert len(published(app)) == 2


def test_a_fingerprint_tells_one_secret_from_another_and_not_the_secret(make_user_app):
    def ask(secret, salt):
        app = make_user_app(key_encryption_secret=secret)
        return app.test_cli_runner().invoke(args=["keys", "fingerprint", "--salt", salt]).output.strip()

    first = ask("a secret of one suite", "salt")
    assert len(first) == 32
    assert first == ask("a secret of one suite", "salt")
    assert len({first, ask("a secret of another", "salt"), ask("a secret of one suite", "other")}) == 3
