"""An administrator looks after the accounts."""

import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from chassis.cli import prepare
from tests.interleaving import Process
from tests.servers import run_redis
from tests.user.people import (
    PASSWORD,
    Person,
    events_of,
    eventually,
    is_signed_out_soon,
    refusal,
    wrong_fields,
)


def search(admin, **query):
    answer = admin.send("GET", "/users", query_string=query)
    assert answer.status_code == 200, answer.json
    return answer.json


def renewed(person):
    answer = person.refresh()
    assert answer.status_code == 200, answer.json
    tokens = {name: answer.json[name] for name in ("access_token", "refresh_token")}
    return dataclasses.replace(person, **tokens)


def change(admin, user, **fields):
    answer = admin.patch(f"/users/{user['id']}", fields)
    assert answer.status_code == 200, answer.json
    return answer.json


class TestList:
    def test_pages_through_all_newest_first(self, admin, anyone):
        made = [anyone.register().user["id"] for _ in range(5)]
        found, cursor = [], None
        while not set(made) <= set(found):
            page = search(admin, limit=2, **({"cursor": cursor} if cursor else {}))
            found += [user["id"] for user in page["items"]]
            cursor = page["next_cursor"]
        assert found[:5] == made[::-1]
        assert found == sorted(set(found), reverse=True)

    def test_searches_name_address_and_nickname_in_any_case(self, admin, anyone):
        wanted = anyone.register(username="Zoë.Findme", email="someone.else@example.com").sign_in()
        wanted.put("/profile", {"nickname": "寻找我"})
        for q in ("ZOË.find", "findme", "SOMEONE.else", "寻找"):
            assert [user["id"] for user in search(admin, q=q)["items"]] == [wanted.user["id"]]
        assert set(search(admin, q="findme")["items"][0]) == set(wanted.user)

    @pytest.mark.parametrize("q", ["%", "_____________________________", "\\", "' OR 1=1 --"])
    def test_takes_what_is_searched_by_the_letter(self, admin, q):
        assert search(admin, q=q) == {"items": [], "next_cursor": None}

    def test_refuses_a_bad_query(self, admin):
        bad = admin.send("GET", "/users", query_string={"cursor": "x"})
        assert refusal(bad) == (400, "invalid_cursor")
        assert wrong_fields(admin.send("GET", "/users", query_string={"limit": 101})) == ["query.limit"]

    def test_takes_one_statement(self, admin, statements):
        search(admin, q="a", limit=50)
        assert len(statements) == 1


class TestOne:
    def test_is_shown_as_to_themselves(self, admin, customer):
        assert admin.get(f"/users/{customer.user['id']}").json == customer.user

    def test_unknown_is_not_found(self, admin):
        assert refusal(admin.get("/users/999999999")) == (404, "not_found")
        assert refusal(admin.patch("/users/999999999", {"active": False})) == (404, "not_found")


@pytest.mark.parametrize(("method", "path"), [("GET", "/users"), ("GET", "/users/1"), ("PATCH", "/users/1")])
def test_is_for_administrators(anyone, customer, method, path):
    body = {"role": "admin"} if method == "PATCH" else None
    assert refusal(anyone.send(method, path, body)) == (401, "unauthorized")
    assert refusal(customer.send(method, path, body)) == (403, "forbidden")


class TestDisabling:
    def test_shuts_the_user_out_within_a_second_and_tells_it(self, app, admin, customer):
        other = customer.sign_in()
        assert change(admin, customer.user, active=False)["active"] is False
        time.sleep(1)
        for person in (customer, other):
            assert refusal(person.get("/profile")) == (401, "unauthorized")
            assert refusal(person.refresh()) == (401, "invalid_token")
        credentials = {"username": customer.user["username"], "password": PASSWORD}
        assert refusal(customer.post("/login", credentials)) == (403, "account_disabled")
        [_, event] = events_of(app, customer.user["id"])
        assert (event["type"], event["data"]["active"]) == ("user.updated", False)

    def test_enabling_lets_the_user_in_but_ends_no_end(self, admin, customer):
        change(admin, customer.user, active=False)
        assert is_signed_out_soon(customer)
        change(admin, customer.user, active=True)
        again = customer.sign_in()
        time.sleep(1)
        assert again.get("/profile").status_code == 200
        assert refusal(customer.get("/profile")) == (401, "unauthorized")

    def test_of_somebody_who_signs_in_at_that_moment_leaves_no_session(self, admin, customer):
        credentials = {"username": customer.user["username"], "password": PASSWORD}
        with ThreadPoolExecutor(6) as pool:
            logins = [pool.submit(customer.post, "/login", credentials) for _ in range(5)]
            change(admin, customer.user, active=False)
            answers = [login.result() for login in logins]
        for answer in answers:
            if answer.status_code == 200:
                late = dataclasses.replace(customer, refresh_token=answer.json["refresh_token"])
                assert refusal(late.refresh()) == (401, "invalid_token")
            else:
                assert refusal(answer) == (403, "account_disabled")

    def test_without_redis_changes_nothing(self, make_user_app):
        with run_redis() as server:
            at = {"redis_host": server.host, "redis_port": server.port, "redis_password": server.password}
            app = make_user_app(**at)
            prepare(app)
            boss = Person(app, user={"username": "root"}).sign_in()
            person = Person(app).register()
            server.child.kill()
            for fields in ({"active": False}, {"role": "admin"}):
                answer = boss.patch(f"/users/{person.user['id']}", fields)
                assert refusal(answer) == (503, "service_unavailable")
            assert boss.get(f"/users/{person.user['id']}").json == person.user
            assert len(events_of(app, person.user["id"])) == 1


class TestRoles:
    def test_a_new_administrator_is_one_with_the_next_token(self, app, admin, customer):
        change(admin, customer.user, role="admin")
        assert is_signed_out_soon(customer)
        again = renewed(customer)
        assert again.get("/users").status_code == 200
        assert events_of(app, customer.user["id"])[-1]["data"]["role"] == "admin"

    def test_who_is_none_any_more_is_none_within_a_second(self, admin, customer):
        change(admin, customer.user, role="admin")
        deputy = renewed(customer)
        assert deputy.get("/users").status_code == 200
        change(admin, customer.user, role="customer")
        time.sleep(1)
        assert refusal(deputy.get("/users")) == (401, "unauthorized")
        again = renewed(deputy)
        assert refusal(again.get("/users")) == (403, "forbidden")
        assert again.get("/profile").json["role"] == "customer"


class TestLostAnswer:
    """The database commits, and the answer to that never arrives."""

    @pytest.fixture
    def change_unheard(self, app, admin):
        with app.app_context():
            engine = app.extensions["sqlalchemy"].engine

        def change_unheard(user, stop_at="after a commit", **fields):
            process = Process(engine, stop_at=stop_at)
            answer = process.loses_an_answer(lambda: admin.patch(f"/users/{user['id']}", fields))
            assert process.stopped_at == stop_at
            assert refusal(answer) == (503, "service_unavailable")

        return change_unheard

    def test_to_taking_a_role_away_leaves_nobody_with_it(self, admin, customer, change_unheard):
        change(admin, customer.user, role="admin")
        deputy = renewed(customer)
        change_unheard(customer.user, role="customer")
        assert is_signed_out_soon(deputy)
        assert change(admin, customer.user, role="customer")["role"] == "customer"
        again = renewed(deputy)
        assert eventually(lambda: again.get("/profile").status_code == 200)
        assert refusal(deputy.get("/profile")) == (401, "unauthorized")
        assert again.get("/profile").json["role"] == "customer"

    def test_to_giving_a_role_is_made_good_by_giving_it_again(self, admin, customer, change_unheard):
        change_unheard(customer.user, role="admin")
        deputy = renewed(customer)
        change(admin, customer.user, role="admin")
        assert eventually(lambda: deputy.get("/users").status_code == 200)
        assert is_signed_out_soon(customer)

    def test_to_disabling_shuts_the_user_out(self, admin, customer, change_unheard):
        change_unheard(customer.user, active=False)
        assert is_signed_out_soon(customer)
        change(admin, customer.user, active=False)
        time.sleep(1)
        assert refusal(customer.get("/profile")) == (401, "unauthorized")

    def test_to_enabling_is_made_good_by_enabling_again(self, admin, customer, change_unheard):
        change(admin, customer.user, active=False)
        change_unheard(customer.user, active=True)
        assert is_signed_out_soon(customer)
        again = customer.sign_in()
        change(admin, customer.user, active=True)
        assert eventually(lambda: again.get("/profile").status_code == 200)

    @pytest.mark.parametrize("fields", [{"role": "customer"}, {"active": False}])
    def test_to_a_commit_that_never_was_is_made_good_by_what_was_before(
        self, admin, customer, change_unheard, fields
    ):
        change(admin, customer.user, role="admin")
        change_unheard(customer.user, "before a commit", **fields)
        assert admin.get(f"/users/{customer.user['id']}").json["role"] == "admin"
        change(admin, customer.user, role="admin", active=True)
        deputy = customer.sign_in()
        assert eventually(lambda: deputy.get("/users").status_code == 200)


class TestLastAdmin:
    @pytest.fixture
    def alone(self, make_user_app):
        # With a Redis of its own: what is refused there is no other test's administrator.
        with run_redis() as server:
            at = {"redis_host": server.host, "redis_port": server.port, "redis_password": server.password}
            app = make_user_app(**at)
            prepare(app)
            yield Person(app, user={"username": "root"}).sign_in()

    @pytest.mark.parametrize("fields", [{"active": False}, {"role": "customer"}])
    def test_stays(self, alone, fields):
        assert refusal(alone.patch(f"/users/{alone.user['id']}", fields)) == (409, "last_admin")
        assert alone.get(f"/users/{alone.user['id']}").json == alone.user

    def test_may_go_when_there_is_another(self, alone):
        other = Person(alone.app).register()
        change(alone, other.user, role="admin")
        change(alone, other.user, active=False)
        assert refusal(alone.patch(f"/users/{alone.user['id']}", {"active": False})) == (409, "last_admin")
        change(alone, other.user, active=True)
        change(alone, alone.user, role="customer")

    def test_of_two_who_remove_each_other_one_stays(self, alone, service):
        other = Person(alone.app).register()
        change(alone, other.user, role="admin")
        other = other.sign_in()
        pairs = [(alone, other.user), (other, alone.user)] * 2
        with ThreadPoolExecutor(4) as pool:
            send = lambda pair: pair[0].patch(f"/users/{pair[1]['id']}", {"active": False})  # noqa: E731
            answers = list(pool.map(send, pairs))
        assert {answer.status_code for answer in answers} <= {200, 401, 409}
        page = alone.app.test_client().get("/internal/v1/admins", headers=service())
        assert len(page.json["items"]) == 1


class TestChange:
    def test_of_nothing_records_nothing(self, app, admin, customer):
        for fields in ({}, {"active": True}, {"role": "customer"}):
            assert change(admin, customer.user, **fields) == customer.user
        assert len(events_of(app, customer.user["id"])) == 1

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("role", "root"),
            ("role", None),
            ("active", "no"),
            ("active", None),
            ("email", "a@b.example"),
            ("id", 1),
        ],
    )
    def test_names_the_field_that_is_wrong(self, admin, customer, field, value):
        answer = admin.patch(f"/users/{customer.user['id']}", {field: value})
        assert wrong_fields(answer) == [field]

    def test_takes_a_constant_number_of_statements(self, admin, customer, statements):
        change(admin, customer.user, active=False, role="admin")
        assert len(statements) == 3
