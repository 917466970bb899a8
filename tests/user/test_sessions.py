"""Somebody stays signed in, and signs out."""

import base64
import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis.commands.core import Script
from sqlalchemy import text

from tests.interleaving import Process
from tests.user.people import PASSWORD, is_signed_out_soon, refusal, wrong_fields
from user_service.services import session_store
from user_service.services.session_store import RefreshToken


def signed_in_as(person, answer):
    return dataclasses.replace(
        person, access_token=answer.json["access_token"], refresh_token=answer.json["refresh_token"]
    )


class TestRefresh:
    def test_gives_new_tokens_of_the_same_session(self, customer):
        answer = customer.refresh()
        assert answer.status_code == 200
        assert answer.json["user"] == customer.user
        assert answer.json["refresh_token"] != customer.refresh_token
        again = signed_in_as(customer, answer)
        assert again.get("/profile").status_code == 200
        old, new = (RefreshToken.parse(one.refresh_token) for one in (customer, again))
        assert old.session_id == new.session_id
        assert again.refresh().status_code == 200

    def test_shows_what_changed_meanwhile(self, customer):
        customer.put("/profile", {"nickname": "new"})
        assert customer.refresh().json["user"]["nickname"] == "new"

    def test_of_a_spent_token_ends_the_whole_session(self, customer):
        again = signed_in_as(customer, customer.refresh())
        assert refusal(customer.refresh()) == (401, "token_reused")
        assert refusal(again.refresh()) == (401, "token_reused")
        assert refusal(customer.refresh()) == (401, "token_reused")
        assert is_signed_out_soon(customer)
        assert is_signed_out_soon(again)

    def test_of_a_spent_token_ends_the_session_even_where_the_process_dies(self, app, customer):
        customer.refresh()
        with app.app_context():
            engine = app.extensions["sqlalchemy"].engine
        process = Process(engine, {Script.__call__: RuntimeError}, stop_at="after Script.__call__")
        process.dies(customer.refresh)
        assert process.stopped_at is not None
        assert is_signed_out_soon(customer)

    def test_leaves_the_persons_other_sessions_alone(self, customer):
        other = customer.sign_in()
        customer.refresh()
        customer.refresh()
        assert is_signed_out_soon(customer)
        assert other.get("/profile").status_code == 200
        assert other.refresh().status_code == 200

    def test_with_one_token_many_times_at_once_ends_the_session(self, customer):
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda _: customer.refresh(), range(6)))
        good = [answer for answer in answers if answer.status_code == 200]
        assert len(good) <= 1
        bad = [refusal(answer) for answer in answers if answer.status_code != 200]
        assert set(bad) == {(401, "token_reused")}
        assert is_signed_out_soon(customer)
        for answer in good:
            assert refusal(signed_in_as(customer, answer).refresh()) == (401, "token_reused")

    def test_repeated_by_the_client_library_after_a_lost_answer_is_one_use(self, app, customer, monkeypatch):
        store = app.extensions["tools"].sessions
        token = RefreshToken.parse(customer.refresh_token)
        successor = token.succeed()
        monkeypatch.setattr(RefreshToken, "succeed", lambda _self: successor)
        assert store.rotate(token, customer.user["id"]) == successor
        assert store.rotate(token, customer.user["id"]) == successor

    def test_of_a_token_that_nobody_gave_out_is_refused_and_ends_nothing(self, customer):
        token = RefreshToken.parse(customer.refresh_token)
        forged = dataclasses.replace(token, secret=b"s" * 16)
        unknown = dataclasses.replace(token, session_id="019ab0c4-7f5e-7cc3-98c4-dc0c0c070001")
        odd = [
            str(forged),
            str(unknown),
            "",
            "x",
            "ü",
            "=" * 88,
            base64.urlsafe_b64encode(b"a" * 63).decode(),
        ]
        for text_of_token in odd:
            answer = customer.post("/token/refresh", {"refresh_token": text_of_token})
            assert refusal(answer) == (401, "invalid_token")
        assert customer.refresh().status_code == 200

    def test_of_an_expired_session_is_refused(self, app, customer):
        session_id = RefreshToken.parse(customer.refresh_token).session_id
        redis = app.extensions["edge"].redis
        assert 0 < redis.ttl(f"session:{session_id}") <= session_store.SESSION_SECONDS
        redis.delete(f"session:{session_id}")
        assert refusal(customer.refresh()) == (401, "invalid_token")

    def test_of_a_disabled_user_is_refused_and_ends_the_session(self, app, customer):
        with app.app_context():
            session = app.extensions["sqlalchemy"].session
            session.execute(
                text("UPDATE users SET active = false WHERE id = :id"), {"id": customer.user["id"]}
            )
            session.commit()
        assert refusal(customer.refresh()) == (401, "invalid_token")
        assert is_signed_out_soon(customer)

    def test_needs_the_token(self, anyone):
        assert wrong_fields(anyone.post("/token/refresh", {})) == ["refresh_token"]

    def test_keeps_no_token_in_redis(self, app, customer):
        redis = app.extensions["edge"].redis
        token = RefreshToken.parse(customer.refresh_token)
        kept = redis.hgetall(f"session:{token.session_id}")
        assert set(kept) == {"user_id", "secret", "token", "created_at", "used_at", "user_agent", "address"}
        assert token.token.hex() not in kept.values()
        assert token.secret.hex() not in kept.values()


class TestLogout:
    def test_ends_the_session_within_a_second(self, customer):
        assert customer.get("/profile").status_code == 200
        answer = customer.post("/logout")
        assert (answer.status_code, answer.data) == (204, b"")
        time.sleep(1)
        assert refusal(customer.get("/profile")) == (401, "unauthorized")
        assert refusal(customer.refresh()) == (401, "invalid_token")

    def test_leaves_other_sessions_alone(self, customer):
        other = customer.sign_in()
        customer.post("/logout")
        assert is_signed_out_soon(customer)
        assert other.get("/profile").status_code == 200

    def test_needs_somebody_signed_in(self, anyone):
        answer = anyone.post("/logout")
        assert refusal(answer) == (401, "unauthorized")
        assert answer.headers["WWW-Authenticate"] == "Bearer"


def devices(person):
    answer = person.get("/sessions")
    assert (answer.status_code, answer.json["next_cursor"]) == (200, None)
    return answer.json["items"]


def device_of(person):
    [own] = [device for device in devices(person) if device["current"]]
    return own["id"]


class TestSessions:
    def test_lists_the_devices_and_tells_which_one_asks(self, app, anyone):
        person = anyone.register().sign_in()
        credentials = {"username": person.user["username"], "password": PASSWORD}
        headers = {"User-Agent": "Phone/1.0 " + "x" * 300, "X-Forwarded-For": "203.0.113.9"}
        person.send("POST", "/login", credentials, headers=headers)
        phone, own = sorted(devices(person), key=lambda device: device["current"])
        assert set(own) == {"id", "created_at", "last_used_at", "user_agent", "address", "current"}
        assert (own["current"], phone["current"]) == (True, False)
        assert own["id"] == RefreshToken.parse(person.refresh_token).session_id
        assert phone["user_agent"].startswith("Phone/1.0")
        assert len(phone["user_agent"]) == 200
        assert phone["address"] == "203.0.113.9"
        assert own["created_at"].endswith("Z")
        assert own["last_used_at"] >= own["created_at"]

    def test_shows_nobody_elses_and_none_that_ended(self, customer, anyone):
        other = anyone.register().sign_in()
        second = customer.sign_in()
        second.post("/logout")
        reused = customer.sign_in()
        reused.refresh()
        reused.refresh()
        assert [device["id"] for device in devices(customer)] == [device_of(customer)]
        assert device_of(other) not in {device["id"] for device in devices(customer)}

    def test_one_too_many_ends_the_longest_unused_everywhere(self, app, customer):
        second = customer.sign_in()
        store = session_store.SessionStore(app.extensions["edge"].redis, most=2)
        third = store.start(customer.user["id"], user_agent="", address="")
        assert {device["id"] for device in devices(second)} == {device_of(second), third.session_id}
        assert refusal(customer.refresh()) == (401, "invalid_token")
        assert is_signed_out_soon(customer)
        assert second.refresh().status_code == 200

    def test_one_that_is_ended_stops_within_a_second(self, customer):
        other = customer.sign_in()
        answer = customer.send("DELETE", f"/sessions/{device_of(other)}")
        assert (answer.status_code, answer.data) == (204, b"")
        time.sleep(1)
        assert refusal(other.get("/profile")) == (401, "unauthorized")
        assert refusal(other.refresh()) == (401, "invalid_token")
        assert len(devices(customer)) == 1

    def test_the_one_that_asks_may_end_itself(self, customer):
        assert customer.send("DELETE", f"/sessions/{device_of(customer)}").status_code == 204
        assert is_signed_out_soon(customer)

    @pytest.mark.parametrize("session_id", ["019ab0c4-7f5e-7cc3-98c4-dc0c0c070001", "1", "x"])
    def test_an_unknown_one_is_not_found(self, customer, session_id):
        assert refusal(customer.send("DELETE", f"/sessions/{session_id}")) == (404, "not_found")

    def test_another_persons_is_not_found_and_goes_on(self, customer, anyone):
        other = anyone.register().sign_in()
        answer = customer.send("DELETE", f"/sessions/{device_of(other)}")
        assert refusal(answer) == (404, "not_found")
        assert other.refresh().status_code == 200

    def test_needs_somebody_signed_in(self, anyone):
        assert refusal(anyone.get("/sessions")) == (401, "unauthorized")


@pytest.mark.parametrize("route", ["login", "refresh"])
def test_the_number_of_statements_is_constant(customer, statements, route):
    customer.refresh() if route == "refresh" else customer.sign_in()
    # The user, who signs in being looked at again, and now and then the signing key.
    assert len(statements) <= (3 if route == "login" else 2)
