"""Passwords: which are taken, how they are kept, and how many are checked at a time."""

import base64
import hashlib
import threading
import time

import bcrypt
import pytest

from chassis.errors import Refusal
from user_service.common_passwords import is_common
from user_service.services import hashing
from user_service.services.hashing import NOBODYS_HASH, Hasher, Turnstile


@pytest.mark.parametrize(
    "password",
    """password Password 12345678 123456789 1234567890 qwertyui qwertyuiop 1q2w3e4r 1qaz2wsx password1
    passw0rd iloveyou sunshine princess football baseball superman trustno1 whatever welcome1 letmein1
    abcd1234 a1b2c3d4 11111111 88888888 12341234 87654321 asdfghjk zxcvbnm123 michelle computer
    111222333 123123123 0987654321""".split(),
)
def test_common_passwords_are_known(password):
    assert is_common(password)


@pytest.mark.parametrize(
    "password",
    ["Sup3rSecret!", "correct horse", "shopper-2026", "kein Allerweltswort", "x" * 128, "密码好得很真的"],
)
def test_others_are_taken(password):
    assert not is_common(password)


def test_the_check_is_quick_for_anything_that_is_typed():
    started = time.perf_counter()
    for hostile in ("4@8({[<369&#!1|0$5+7%2" * 6, "(({{[[<<66991!|77$5(", "1!|7i1!|l7t+1!|71!|7"):
        is_common(hostile[:128])
    assert time.perf_counter() - started < 2


def test_a_hash_is_bcrypt_of_cost_12_over_the_base64_of_sha256():
    kept = Hasher().hash("a password")
    assert kept.startswith("$2b$12$")
    digest = base64.b64encode(hashlib.sha256(b"a password").digest())
    assert bcrypt.checkpw(digest, kept.encode())


def test_a_password_is_the_same_however_its_letters_are_composed():
    hasher = Hasher(cost=4)
    assert hasher.matches("Ma\u0308dchen", hasher.hash("M\u00e4dchen"))


def test_nobodys_hash_costs_what_a_real_one_does_and_matches_nothing():
    assert NOBODYS_HASH.startswith("$2b$12$")
    assert len(NOBODYS_HASH) == 60
    assert not Hasher().matches("anything", None)


@pytest.fixture
def crowd():
    """Return a turnstile and a function that sends people through it until they are let go."""
    turnstile, go, done = Turnstile(), threading.Event(), []

    def enter():
        try:
            with turnstile.turn():
                go.wait(10)
            done.append("served")
        except Refusal as refusal:
            done.append(refusal.status)

    threads = []

    def send(number):
        for _ in range(number):
            threads.append(threading.Thread(target=enter))
            threads[-1].start()
        time.sleep(0.1)

    def finish():
        go.set()
        for thread in threads:
            thread.join()
        return done

    yield turnstile, send, finish
    finish()


def test_a_burst_waits_and_is_served(crowd):
    _, send, finish = crowd
    send(16)
    assert finish() == ["served"] * 16


def test_a_lasting_storm_is_turned_away_at_once_until_it_is_over(crowd, monkeypatch):
    monkeypatch.setattr(hashing, "BURST_SECONDS", 0.0)
    turnstile, send, finish = crowd
    send(20)
    assert finish().count(503) >= 7
    with turnstile.turn():
        pass


def test_waiting_ends(crowd, monkeypatch):
    monkeypatch.setattr(hashing, "WAIT_SECONDS", 0.2)
    _, send, finish = crowd
    send(3)
    time.sleep(0.3)
    assert sorted(map(str, finish())) == ["503", "served", "served"]
