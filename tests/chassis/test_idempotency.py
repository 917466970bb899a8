"""One key, one effect, one answer: also at once, across a crash, and after a take-over."""

import threading
from collections.abc import Callable

import pytest
from flask import Flask
from sqlalchemy import func, select, text

from chassis import idempotency
from chassis.errors import DependencyAway
from chassis.idempotency import IdempotencyKey, purge_keys

Headers = Callable[..., dict[str, str]]


@pytest.fixture
def post(app: Flask, bearer: Headers) -> Callable:
    caller = bearer()

    def send(text: str = "hello", key: str | None = "k1", headers: dict[str, str] | None = None):
        sent = {**(headers or caller), **({"Idempotency-Key": key} if key is not None else {})}
        return app.test_client().post("/api/v1/notes", json={"text": text}, headers=sent)

    return send


def note_count(app: Flask) -> int:
    with app.app_context():
        return app.extensions["sqlalchemy"].session.scalar(select(func.count()).select_from(text("notes")))


def age_claims(app: Flask, interval: str) -> None:
    with app.app_context():
        session = app.extensions["sqlalchemy"].session
        session.execute(text(f"UPDATE idempotency_keys SET claimed_at = now() - interval '{interval}'"))
        session.execute(text(f"UPDATE idempotency_keys SET created_at = now() - interval '{interval}'"))
        session.connection().commit()


def test_a_repeat_gets_the_same_answer_and_changes_nothing(app: Flask, post: Callable) -> None:
    first, again = post(), post()
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.data == first.data
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    assert note_count(app) == 1


def test_without_a_key_each_request_counts(app: Flask, post: Callable) -> None:
    post(key=None)
    post(key=None)
    assert note_count(app) == 2


def test_another_body_under_the_key_is_refused(post: Callable) -> None:
    post()
    answer = post(text="other")
    assert (answer.status_code, answer.json["code"]) == (422, "idempotency_key_reused")


def test_a_key_belongs_to_its_user(app: Flask, post: Callable, bearer: Headers) -> None:
    post()
    assert "Idempotent-Replayed" not in post(headers=bearer(user_id=2)).headers
    assert note_count(app) == 2


@pytest.mark.parametrize("key", ["", "x" * 256, "with space", "ä"])
def test_a_malformed_key_is_refused(post: Callable, key: str) -> None:
    answer = post(key=key)
    assert (answer.status_code, answer.json["code"]) == (400, "invalid_idempotency_key")


def test_a_refusal_of_the_use_case_is_remembered(post: Callable) -> None:
    first, again = post(text="refuse"), post(text="refuse")
    assert (first.status_code, again.status_code) == (409, 409)
    assert again.data == first.data
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.content_type == "application/problem+json"


@pytest.mark.parametrize(("text", "status"), [("away", 503), ("crash", 500)])
def test_a_failure_leaves_the_key_free(post: Callable, text: str, status: int) -> None:
    for _ in range(2):
        answer = post(text=text)
        assert answer.status_code == status
        assert "Idempotent-Replayed" not in answer.headers


def test_a_second_request_meanwhile_is_told_to_wait(post: Callable, pause: list) -> None:
    meanwhile = []

    def second() -> None:
        pause.clear()
        meanwhile.append(post())

    pause.append(second)
    assert post().status_code == 201
    (answer,) = meanwhile
    assert (answer.status_code, answer.json["code"]) == (409, "idempotency_in_progress")
    assert int(answer.headers["Retry-After"]) > 0


def test_a_stale_claim_is_taken_over_with_the_same_resource(app: Flask, post: Callable, pause: list) -> None:
    taken_over = []

    def crash_and_come_back() -> None:
        pause.clear()
        age_claims(app, "16 seconds")
        taken_over.append(post())

    pause.append(crash_and_come_back)
    late = post()
    assert taken_over[0].status_code == 201
    assert late.data == taken_over[0].data  # The late one lost its claim and repeats what stands.
    assert late.headers["Idempotent-Replayed"] == "true"
    assert note_count(app) == 1


def test_of_twenty_at_once_one_has_the_effect(app: Flask, post: Callable) -> None:
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(post())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert note_count(app) == 1
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.data for answer in answers if answer.status_code == 201}) == 1


def test_a_key_is_forgotten_after_a_day(app: Flask, post: Callable) -> None:
    post()
    age_claims(app, "25 hours")
    with app.app_context():
        session = app.extensions["sqlalchemy"].session
        purge_keys(session)
        assert session.scalar(select(func.count()).select_from(IdempotencyKey)) == 0
    assert "Idempotent-Replayed" not in post().headers


def test_a_reply_is_remembered_for_a_day_however_late_it_came(
    app: Flask, post: Callable, pause: list
) -> None:
    def fail() -> None:
        pause.clear()
        raise DependencyAway("a neighbour")

    pause.append(fail)
    assert post().status_code == 503
    with app.app_context():
        session = app.extensions["sqlalchemy"].session
        session.execute(text("UPDATE idempotency_keys SET created_at = now() - interval '23 hours'"))
        session.commit()
        assert post().status_code == 201
        session.execute(text("UPDATE idempotency_keys SET created_at = created_at - interval '2 hours'"))
        session.commit()
        purge_keys(session)
    assert post().headers["Idempotent-Replayed"] == "true"


def test_keys_are_forgotten_in_batches_also_without_a_reply(
    app: Flask, post: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "PURGED_AT_ONCE", 2)
    for key in "abc":
        post(key=key)
    age_claims(app, "25 hours")
    post(key="young")
    with app.app_context():
        session = app.extensions["sqlalchemy"].session
        session.execute(text("UPDATE idempotency_keys SET status = NULL WHERE key = 'a'"))
        session.commit()
        assert [purge_keys(session) for _ in range(2)] == [True, False]
        assert session.scalars(select(IdempotencyKey.key)).all() == ["young"]
