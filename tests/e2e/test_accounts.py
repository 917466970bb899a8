"""Registering, signing in, staying signed in, and one's own profile."""

import re
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest

from tests.e2e.client import POOL, Client, eventually
from tests.e2e.conftest import PASSWORD, word

USER_FIELDS = set(
    "id username email email_verified phone nickname locale role active created_at updated_at".split()
)
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def account(**fields):
    """Make the body of a registration that works."""
    name = f"u_{word()}"
    return {"username": name, "email": f"{name}@example.com", "password": PASSWORD} | fields


def is_signed_out(client: Client) -> bool:
    """Tell whether every service refuses the client's token."""
    asked = [client.get(path) for path in ("/profile", "/cart", "/notifications/history")]
    asked.append(client.post("/products", {"name": "x", "price": "1.00"}))
    return [reply.code for reply in asked] == ["unauthorized"] * 4


class TestRegistration:
    def test_answers_the_user_without_any_secret(self, anyone):
        body = account(phone="+8613800138000")
        user = anyone.post("/register", body).expect(201)
        assert set(user) >= USER_FIELDS
        assert not [field for field in user if "password" in field or "hash" in field]
        assert user["username"] == body["username"]
        assert user["email"] == body["email"]
        assert user["phone"] == "+8613800138000"
        assert (user["role"], user["active"], user["email_verified"]) == ("customer", True, False)
        assert user["locale"] in ("zh-CN", "en")
        assert TIME.fullmatch(user["created_at"])
        assert TIME.fullmatch(user["updated_at"])

    @pytest.mark.parametrize("name", ["小明", "Ünï_-.9", "Мария", "بدر"])
    def test_takes_letters_of_any_script(self, anyone, name):
        body = account()
        body["username"] = f"{name}{body['username']}"
        user = anyone.post("/register", body).expect(201)
        assert user["username"] == body["username"]
        assert anyone.login(body["username"], PASSWORD).user["id"] == user["id"]

    def test_compares_names_and_addresses_without_case(self, anyone):
        body = account()
        anyone.post("/register", body).expect(201)
        anyone.post("/register", account(username=body["username"].upper())).refused(409, "username_taken")
        anyone.post("/register", account(email=body["email"].upper())).refused(409, "email_taken")

    def test_of_one_name_at_once_succeeds_once(self, anyone):
        body = account()
        with ThreadPoolExecutor(6) as pool:
            replies = list(
                pool.map(
                    lambda n: anyone.post("/register", body | {"email": f"{n}{body['email']}"}), range(6)
                )
            )
        assert [reply.status for reply in replies].count(201) == 1
        # Passwords are hashed by a few at a time; who would wait too long is sent away.
        assert {reply.code for reply in replies if reply.status != 201} <= {
            "username_taken",
            "service_unavailable",
        }

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("username", "ab"),
            ("username", "a" * 33),
            ("username", "has space"),
            ("username", "<script>"),
            ("username", "nul\0byte"),
            ("username", 12345),
            ("username", None),
            ("email", "no-at-sign"),
            ("email", "a@"),
            ("email", "two@at@example.com"),
            ("email", "line\nbreak@example.com"),
            ("email", "a" * 300 + "@example.com"),
            ("password", "short12"),
            ("password", "x" * 129),
            ("password", "iloveyou"),
            ("password", "password"),
            ("password", ["list"]),
            ("phone", "not a phone"),
            ("role", "admin"),
            ("active", True),
            ("nonsense", 1),
        ],
    )
    def test_names_the_field_that_is_wrong_and_never_repeats_its_value(self, anyone, field, value):
        problem = anyone.post("/register", account(**{field: value})).invalid(field)
        if isinstance(value, str) and value not in ("admin", "ab", "password"):
            assert value not in str(problem)

    @pytest.mark.parametrize("field", ["username", "email", "password"])
    def test_names_the_field_that_is_missing(self, anyone, field):
        body = account()
        del body[field]
        anyone.post("/register", body).invalid(field)

    def test_uses_all_of_a_long_password(self, anyone):
        body = account(password="密" * 127 + "码")
        anyone.post("/register", body).expect(201)
        anyone.login(body["username"], body["password"])
        wrong = {"username": body["username"], "password": "密" * 128}
        anyone.post("/login", wrong).refused(401, "invalid_credentials")


class TestLogin:
    def test_by_name_or_by_address(self, anyone):
        body = account()
        user = anyone.post("/register", body).expect(201)
        for name in (body["username"], body["email"]):
            session = anyone.post("/login", {"username": name, "password": PASSWORD}).expect(200)
            assert session["token_type"] == "Bearer"
            assert session["expires_in"] == 900
            assert session["user"]["id"] == user["id"]
            assert set(session["user"]) >= USER_FIELDS

    def test_refuses_a_wrong_password_and_an_unknown_name_alike(self, anyone, customer):
        wrong = anyone.post("/login", {"username": customer.user["username"], "password": "wrong password"})
        unknown = anyone.post("/login", {"username": word(), "password": "wrong password"})
        for reply in (wrong, unknown):
            reply.refused(401, "invalid_credentials")
        ignored = {"request_id": None}
        assert wrong.body | ignored == unknown.body | ignored

    def test_takes_as_long_for_an_unknown_name(self, anyone, new_customer):
        def attempt(name):
            return anyone.post("/login", {"username": name, "password": "wrong password"}).seconds

        known = statistics.median(attempt(new_customer().user["username"]) for _ in range(5))
        unknown = statistics.median(attempt(word()) for _ in range(5))
        assert 0.4 < unknown / known < 2.5

    def test_locks_one_account_after_five_failures_and_no_other(self, anyone, customer, new_customer):
        name = customer.user["username"]
        for _ in range(5):
            anyone.post("/login", {"username": name, "password": "wrong"}).refused(401, "invalid_credentials")
        locked = anyone.post("/login", {"username": name, "password": PASSWORD})
        locked.refused(429, "rate_limited")
        assert 0 < int(locked.headers["Retry-After"]) <= 900
        customer.get("/profile").expect(200)
        other = new_customer()
        assert anyone.login(other.user["username"], PASSWORD).user["id"] == other.user["id"]

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"username": "a"}, "password"),
            ({"password": "a"}, "username"),
            ({"username": 1, "password": "a"}, "username"),
            ({"username": "a", "password": "b", "otp": "1"}, "otp"),
        ],
    )
    def test_names_the_field_that_is_wrong(self, anyone, body, field):
        anyone.post("/login", body).invalid(field)


class TestAccessToken:
    def test_is_signed_by_a_published_key(self, anyone, shopper, running_suite):
        keys = anyone.get("/.well-known/jwks.json", prefix="").expect(200)["keys"]
        assert not [key for key in keys if "d" in key or key["kty"] == "oct"]
        head = jwt.get_unverified_header(shopper.token)
        key = jwt.PyJWK(next(key for key in keys if key["kid"] == head["kid"]))
        claims = jwt.decode(shopper.token, key, algorithms=[head["alg"]], options={"verify_aud": False})
        assert head["alg"] in ("EdDSA", "ES256")
        assert claims["sub"] == str(shopper.user["id"])
        assert claims["role"] == "customer"
        assert claims["exp"] - claims["iat"] == 900
        assert {"iss", "aud", "sid"} <= set(claims)

    @pytest.mark.parametrize("kind", ["none", "empty", "garbage", "tampered", "unsigned", "basic", "own key"])
    @pytest.mark.parametrize("path", ["/profile", "/cart", "/orders", "/notifications/history"])
    def test_of_any_other_making_is_refused(self, anyone, shopper, kind, path):
        head, payload, signature = shopper.token.split(".")
        claims = jwt.decode(shopper.token, options={"verify_signature": False})
        authorization = {
            "none": None,
            "empty": "Bearer ",
            "garbage": "Bearer not.a.token",
            "tampered": f"Bearer {head}.{payload[:-2]}AA.{signature}",
            "unsigned": f"Bearer {jwt.encode(claims, None, algorithm='none')}",
            "basic": "Basic YWRtaW46YWRtaW4=",
            "own key": f"Bearer {jwt.encode(claims | {'role': 'admin'}, 'k' * 32, algorithm='HS256')}",
        }[kind]
        headers = {"Authorization": authorization} if authorization else {}
        anyone.get(path, headers=headers).refused(401, "unauthorized")


class TestRefresh:
    def test_gives_new_tokens_and_spends_the_old_one(self, anyone, customer):
        fresh = anyone.post("/token/refresh", {"refresh_token": customer.refresh_token}).expect(200)
        assert fresh["refresh_token"] != customer.refresh_token
        assert fresh["user"]["id"] == customer.user["id"]
        Client(anyone.url, fresh["access_token"]).get("/profile").expect(200)

    def test_of_a_spent_token_ends_the_whole_session(self, anyone, customer):
        fresh = anyone.post("/token/refresh", {"refresh_token": customer.refresh_token}).expect(200)
        anyone.post("/token/refresh", {"refresh_token": customer.refresh_token}).refused(401, "token_reused")
        ended = anyone.post("/token/refresh", {"refresh_token": fresh["refresh_token"]})
        assert ended.status == 401
        assert ended.code in ("invalid_token", "token_reused")
        assert eventually(lambda: is_signed_out(customer), seconds=2)
        assert eventually(lambda: is_signed_out(Client(anyone.url, fresh["access_token"])), seconds=2)

    def test_leaves_the_other_sessions_of_the_user_alone(self, anyone, customer):
        other = anyone.login(customer.user["username"], PASSWORD)
        anyone.post("/token/refresh", {"refresh_token": customer.refresh_token}).expect(200)
        anyone.post("/token/refresh", {"refresh_token": customer.refresh_token}).refused(401, "token_reused")
        time.sleep(1)
        other.get("/profile").expect(200)
        anyone.post("/token/refresh", {"refresh_token": other.refresh_token}).expect(200)

    def test_with_one_token_twice_at_once_succeeds_at_most_once(self, anyone, customer):
        body = {"refresh_token": customer.refresh_token}
        with ThreadPoolExecutor(4) as pool:
            replies = list(pool.map(lambda _: anyone.post("/token/refresh", body), range(4)))
        assert [reply.status for reply in replies].count(200) <= 1
        refused = [reply for reply in replies if reply.status != 200]
        assert {reply.status for reply in refused} == {401}
        assert "token_reused" in {reply.code for reply in refused}
        assert eventually(lambda: is_signed_out(customer), seconds=2)

    def test_of_an_unknown_token_is_refused(self, anyone):
        anyone.post("/token/refresh", {"refresh_token": "unknown"}).refused(401, "invalid_token")
        anyone.post("/token/refresh", {}).invalid("refresh_token")


class TestLogout:
    def test_ends_the_session_on_every_service_within_a_second(self, anyone, customer):
        assert not is_signed_out(customer)
        assert customer.post("/logout").expect(204) is None
        time.sleep(1)
        assert is_signed_out(customer)
        ended = anyone.post("/token/refresh", {"refresh_token": customer.refresh_token})
        assert ended.status == 401

    def test_leaves_other_sessions_alone(self, anyone, customer):
        other = anyone.login(customer.user["username"], PASSWORD)
        customer.post("/logout").expect(204)
        time.sleep(1)
        other.get("/profile").expect(200)
        other.get("/cart").expect(200)

    def test_needs_somebody_signed_in(self, anyone):
        anyone.post("/logout").refused(401, "unauthorized")


class TestProfile:
    def test_shows_the_user(self, shopper):
        profile = shopper.get("/profile").expect(200)
        assert profile["id"] == shopper.user["id"]
        assert set(profile) >= USER_FIELDS

    def test_changes_what_is_sent_and_nothing_else(self, customer):
        before = customer.get("/profile").expect(200)
        changed = customer.put("/profile", {"nickname": "小红", "locale": "en"}).expect(200)
        assert (changed["nickname"], changed["locale"]) == ("小红", "en")
        kept = USER_FIELDS - {"nickname", "locale", "updated_at"}
        assert {field: changed[field] for field in kept} == {field: before[field] for field in kept}
        assert customer.get("/profile").expect(200) == changed

    def test_takes_a_new_name(self, anyone, customer):
        name = f"n_{word()}"
        assert customer.put("/profile", {"username": name}).expect(200)["username"] == name
        anyone.login(name, PASSWORD)

    def test_refuses_a_name_that_somebody_has(self, customer, new_customer):
        other = new_customer()
        taken = customer.put("/profile", {"username": other.user["username"].upper()})
        taken.refused(409, "username_taken")

    def test_accepts_ones_own_name_again(self, customer):
        customer.put("/profile", {"username": customer.user["username"]}).expect(200)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("locale", "fr"),
            ("phone", 5),
            ("role", "admin"),
            ("username", "x"),
            ("nickname", "n" * 1000),
            ("id", 1),
        ],
    )
    def test_names_the_field_that_is_wrong(self, customer, field, value):
        customer.put("/profile", {field: value}).invalid(field)
        assert customer.get("/profile").expect(200)["role"] == "customer"


def test_the_first_administrator_is_the_one_of_the_settings(admin, running_suite):
    assert admin.user["role"] == "admin"
    assert admin.user["username"] == running_suite.env["ADMIN_USERNAME"]
    assert admin.user["email"] == running_suite.env["ADMIN_EMAIL"]


def test_a_users_token_opens_no_internal_route(running_suite, admin):
    for name, url in running_suite.service_urls.items():
        for path in ("/internal/v1/users/1", "/internal/v1/reservations"):
            headers = {"Authorization": f"Bearer {admin.token}"}
            answer = POOL.request("GET", url + path, headers=headers, redirect=False)
            assert answer.status in (401, 403, 404, 405), (name, path)
