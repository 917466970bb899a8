"""Somebody forgot their password and sets a new one by mail."""

import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.servers import run_redis
from tests.user.people import (
    PASSWORD,
    Person,
    events_of,
    is_signed_out_soon,
    refusal,
    registration,
    wrong_fields,
)
from user_service.services.attempts import MOST_COUNTERS, MOST_MAILS, LocalCounter

NEW = "ein ganz neues Wort"


def forget(person, email):
    answer = person.post("/password/forgot", {"email": email})
    assert (answer.status_code, answer.data) == (202, b"")


def requests_of(app, user):
    return [event for event in events_of(app, user["id"]) if event["type"] == "user.recovery.requested"]


@pytest.fixture
def token(customer, issue):
    answer = issue(customer.user["id"], {"purpose": "recovery"})
    assert (answer.status_code, answer.json["email"]) == (201, customer.user["email"])
    return answer.json["token"]


def reset(person, token, new=NEW):
    return person.post("/password/reset", {"token": token, "new_password": new})


class TestForgot:
    def test_records_who_and_no_secret(self, app, anyone):
        user = anyone.register().user
        forget(anyone, user["email"].upper())
        [event] = requests_of(app, user)
        assert event["data"] == {"user_id": user["id"]}

    def test_answers_an_unknown_address_alike_and_in_the_same_time(self, app, anyone):
        user = anyone.register().user
        seconds = {user["email"]: [], "nobody@example.com": []}
        for _ in range(MOST_MAILS + 2):
            for email, times in seconds.items():
                started = time.perf_counter()
                forget(anyone, email)
                times.append(time.perf_counter() - started)
        known, unknown = (statistics.median(times) for times in seconds.values())
        assert 0.8 < known / unknown < 1.25
        assert len(requests_of(app, user)) == MOST_MAILS

    @pytest.mark.parametrize("email", ["", "nobody", "@", "ü@x", "a@b.example\r\nBcc: c@d.example"])
    def test_answers_nonsense_alike(self, anyone, email):
        forget(anyone, email)

    def test_takes_no_username_for_an_address(self, app, anyone):
        user = anyone.register().user
        forget(anyone, user["username"])
        assert requests_of(app, user) == []

    def test_sends_nothing_to_a_disabled_account(self, app, customer, execute, issue):
        execute("UPDATE users SET active = false WHERE id = :id", id=customer.user["id"])
        forget(customer, customer.user["email"])
        assert requests_of(app, customer.user) == []
        assert refusal(issue(customer.user["id"], {"purpose": "recovery"})) == (404, "not_found")

    def test_needs_the_address(self, anyone):
        assert wrong_fields(anyone.post("/password/forgot", {})) == ["email"]


class TestReset:
    def test_sets_the_password_and_ends_every_session(self, customer, token):
        other = customer.sign_in()
        answer = reset(customer, token)
        assert (answer.status_code, answer.data) == (204, b"")
        assert is_signed_out_soon(customer)
        assert is_signed_out_soon(other)
        assert refusal(other.refresh()) == (401, "invalid_token")
        assert customer.sign_in(NEW).get("/profile").json["email_verified"] is True

    def test_counts_once_also_at_once(self, customer, token):
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda n: reset(customer, token, f"{NEW} {n}"), range(4)))
        assert sorted(answer.status_code for answer in answers) == [204, 400, 400, 400]
        assert refusal(reset(customer, token)) == (400, "invalid_token")

    def test_makes_the_tokens_of_other_mails_worthless(self, customer, token, issue):
        second = issue(customer.user["id"], {"purpose": "recovery"}).json["token"]
        assert reset(customer, second).status_code == 204
        assert refusal(reset(customer, token)) == (400, "invalid_token")

    def test_a_changed_password_makes_it_worthless(self, customer, token):
        customer.put("/profile/password", {"current_password": PASSWORD, "new_password": NEW})
        assert refusal(reset(customer, token)) == (400, "invalid_token")

    def test_lets_an_owner_in_whom_others_have_kept_out(self, customer, token):
        for _ in range(6):
            customer.post("/login", {"username": customer.user["username"], "password": "guess"})
        assert reset(customer, token).status_code == 204
        customer.sign_in(NEW)

    def test_is_good_for_thirty_minutes(self, customer, token, execute):
        [[left]] = execute(
            "SELECT extract(epoch FROM expires_at - now()) FROM mail_tokens WHERE user_id = :id",
            id=customer.user["id"],
        )
        assert 1790 < left <= 1800
        execute("UPDATE mail_tokens SET expires_at = now() WHERE user_id = :id", id=customer.user["id"])
        assert refusal(reset(customer, token)) == (400, "invalid_token")
        customer.sign_in()

    def test_of_an_address_that_changed_meanwhile_is_refused(self, customer, token, execute):
        execute(
            "UPDATE users SET email_folded = :new WHERE id = :id", new="n@x.example", id=customer.user["id"]
        )
        assert refusal(reset(customer, token)) == (400, "invalid_token")

    def test_verification_and_recovery_are_not_exchanged(self, customer, token, issue):
        assert refusal(customer.post("/email/verify", {"token": token})) == (400, "invalid_token")
        verification = issue(customer.user["id"]).json["token"]
        assert refusal(reset(customer, verification)) == (400, "invalid_token")
        assert reset(customer, token).status_code == 204

    @pytest.mark.parametrize("unknown", ["", "unknown", "ü" * 100])
    def test_refuses_what_nobody_gave_out(self, anyone, unknown):
        assert refusal(reset(anyone, unknown)) == (400, "invalid_token")

    def test_a_refused_password_leaves_the_token_good(self, customer, token):
        assert wrong_fields(reset(customer, token, "password1")) == ["new_password"]
        assert reset(customer, token).status_code == 204

    def test_takes_a_constant_number_of_statements(self, customer, token, statements):
        reset(customer, token)
        assert len(statements) == 6


class TestThrottling:
    def test_is_limited_per_address_when_the_settings_say_so(self, make_user_app):
        anyone = Person(make_user_app(limit_register_per_address=3))
        codes = [anyone.post("/password/forgot", {"email": "a@b.example"}).status_code for _ in range(2)]
        codes += [reset(anyone, "unknown").status_code for _ in range(2)]
        assert codes == [202, 202, 400, 429]

    def test_without_redis_goes_on_in_the_process(self, make_user_app):
        anyone = Person(make_user_app(redis_port=1, limit_register_per_address=2))
        answers = [anyone.post("/register", registration()) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [201, 201, 429]
        assert 0 < int(answers[2].headers["Retry-After"]) <= 60
        assert [reset(anyone, "unknown").status_code for _ in range(3)] == [400, 400, 429]

    def test_without_redis_a_reset_changes_nothing_and_leaves_the_token_good(self, make_user_app, service):
        with run_redis() as server:
            at = {"redis_host": server.host, "redis_port": server.port, "redis_password": server.password}
            app = make_user_app(**at)
            person = Person(app).register()
            database = app.config["SETTINGS"].db_name
            answer = app.test_client().post(
                f"/internal/v1/users/{person.user['id']}/email-token",
                headers=service("tokens.issue"),
                json={"purpose": "recovery"},
            )
            server.child.kill()
            forget(person, person.user["email"])
            assert len(requests_of(app, person.user)) == 1
            assert refusal(reset(person, answer.json["token"])) == (503, "service_unavailable")
        again = Person(make_user_app(database), user=person.user)
        again.sign_in()
        assert reset(again, answer.json["token"]).status_code == 204

    def test_a_window_in_the_process_ends_and_its_memory_is_bounded(self):
        counter = LocalCounter()
        assert [counter.hit("a", seconds=60)[0] for _ in range(3)] == [1, 2, 3]
        assert counter.hit("b", seconds=0) == (1, 1)
        assert counter.hit("b", seconds=0) == (1, 1)
        for number in range(MOST_COUNTERS + 10):
            counter.hit(f"n{number}", seconds=60)
        assert len(counter._counts) <= MOST_COUNTERS
        assert counter.hit("a", seconds=60)[0] == 4
