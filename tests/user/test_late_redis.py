"""Redis does what it is asked, and its answer comes too late to be heard."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import pytest

from chassis.cli import prepare
from tests.servers import run_redis
from tests.user.ailing_redis import run_late_redis
from tests.user.people import PASSWORD, Person, is_signed_out_soon, refusal
from user_service.services.session_store import RefreshToken
from user_service.services.unanswered import Unanswered

UNAVAILABLE = (503, "service_unavailable")


@pytest.fixture(scope="module")
def line():
    with run_redis() as server, run_late_redis(server) as line:
        yield line


@pytest.fixture(scope="module")
def late_app(make_user_app, line):
    app = make_user_app(redis_port=line.port)
    prepare(app)
    return app


@pytest.fixture
def person(late_app):
    person = Person(late_app).register().sign_in()
    # By now Redis knows the script.
    return renewed(person, person.refresh())


def renewed(person, answer):
    assert answer.status_code == 200, answer.json
    tokens = {name: answer.json[name] for name in ("access_token", "refresh_token")}
    return dataclasses.replace(person, **tokens)


class TestRefresh:
    @pytest.mark.parametrize("times", [1, 2])
    def test_is_made_good_when_the_same_token_comes_again(self, line, person, times):
        for _ in range(times):
            with line.answers_late(b"EVALSHA"):
                assert refusal(person.refresh()) == UNAVAILABLE
        again = renewed(person, person.refresh())
        assert again.get("/profile").status_code == 200
        assert again.refresh().status_code == 200

    def test_is_made_good_once(self, line, person):
        with line.answers_late(b"EVALSHA"):
            assert refusal(person.refresh()) == UNAVAILABLE
        again = renewed(person, person.refresh())
        assert refusal(person.refresh()) == (401, "token_reused")
        assert is_signed_out_soon(again)

    def test_is_made_good_for_one_of_many_at_once(self, line, person):
        with line.answers_late(b"EVALSHA"):
            assert refusal(person.refresh()) == UNAVAILABLE
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: person.refresh(), range(4)))
        assert sorted(answer.status_code for answer in answers)[-3:] == [401] * 3
        assert is_signed_out_soon(person)

    def test_in_one_process_makes_no_other_lenient(self, line, person, make_user_app):
        other = make_user_app(person.app.config["SETTINGS"].db_name, redis_port=line.port)
        with line.answers_late(b"EVALSHA"):
            assert refusal(person.refresh()) == UNAVAILABLE
        assert refusal(dataclasses.replace(person, app=other).refresh()) == (401, "token_reused")
        assert refusal(person.refresh()) == (401, "token_reused")


def test_logout_happens_wholly_or_not_at_all(line, late_app, person):
    with line.answers_late(b"EXEC"):
        assert refusal(person.post("/logout")) == UNAVAILABLE
    assert is_signed_out_soon(person)
    assert refusal(person.refresh()) == (401, "invalid_token")
    session_id = RefreshToken.parse(person.refresh_token).session_id
    assert late_app.extensions["edge"].redis.exists(f"session:{session_id}") == 0


@pytest.mark.parametrize("route", ["login", "password"])
def test_a_try_without_an_answer_counts_as_no_failure(line, person, route):
    def send(password):
        if route == "login":
            return person.post("/login", {"username": person.user["username"], "password": password})
        body = {"current_password": password, "new_password": "ein ganz neues Wort"}
        return person.put("/profile/password", body)

    for _ in range(3):
        with line.answers_late(b"limit:"):
            assert refusal(send(PASSWORD)) == UNAVAILABLE
    wrong = [send("not the password").status_code for _ in range(4)]
    assert wrong == [401 if route == "login" else 403] * 4
    assert send(PASSWORD).status_code == (200 if route == "login" else 204)


def test_a_change_of_role_without_an_answer_is_undone(line, late_app, person):
    boss = Person(late_app, user={"username": "root"}).sign_in()
    path = f"/users/{person.user['id']}"
    with line.answers_late(b"role:"):
        assert refusal(boss.patch(path, {"role": "admin"})) == UNAVAILABLE
    assert boss.get(path).json == person.user
    assert boss.patch(path, {"role": "customer"}).json == person.user
    assert not is_signed_out_soon(person)


class TestUnanswered:
    def test_gives_what_it_keeps_once(self):
        kept = Unanswered(60)
        kept.keep("a", 1)
        assert [kept.take("a"), kept.take("a"), kept.take("b")] == [1, None, None]

    def test_forgets_in_time(self):
        kept = Unanswered(0)
        kept.keep("a", 1)
        assert kept.take("a") is None

    def test_is_bounded_and_gives_up_the_oldest(self):
        kept = Unanswered(60, most=2)
        for number, name in enumerate(("a", "b", "a", "c")):
            kept.keep(name, number)
        assert [kept.take(name) for name in ("a", "b", "c")] == [2, None, 3]
