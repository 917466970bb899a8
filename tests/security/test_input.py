"""Hostile input that means something: others' fields, code in texts, sizes, encodings, numbers."""

import gzip
import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import pytest

from tests.apps import SERVICES as PACKAGES
from tests.apps import openapi
from tests.e2e.client import POOL, Client, Reply, eventually
from tests.e2e.conftest import Mailbox, word
from tests.e2e.suite import SERVICES, Suite
from tests.security.documents import Operation
from tests.security.insides import execute, service_token
from tests.security.test_matrix import CASES, DECLARED, PAIRS
from tests.security.wire import exchange
from tests.security.world import ADDRESS, World

JSON = {"Content-Type": "application/json"}
# What the shop decides, never who asks; those that an operation takes are left out for it.
NOT_YOURS: dict[str, Any] = {
    "id": 1,
    "user_id": 1,
    "role": "admin",
    "roles": ["admin"],
    "is_admin": True,
    "active": True,
    "email_verified": True,
    "password_hash": "$2b$12$x",
    "status": "paid",
    "total_amount": "0.01",
    "unit_price": "0.01",
    "price": "0.01",
    "amount": "0.01",
    "currency": "XXX",
    "stock": 1000,
    "sales": 1000,
    "version": 99,
    "payment": {"status": "captured"},
    "payment_time": "2026-01-01T00:00:00Z",
    "created_at": "2026-01-01T00:00:00Z",
    "expires_at": "2099-01-01T00:00:00Z",
    "attempts": 0,
    "template": "welcome",
    "__proto__": {"admin": True},
    "constructor": 1,
    "_id": 1,
}
# Browsers send further members of a subscription, which the route leaves aside.
TAKES_MORE = {"DELETE /api/v1/notifications/push/subscriptions"}
# A webhook's body is judged after its signature, which covers it.
SIGNED = {"POST /api/v1/payments/webhooks/{method}"}
WRITES = sorted(
    name
    for package in PACKAGES
    for path, item in openapi(package)["paths"].items()
    for method in item
    if "requestBody" in item[method] and (name := f"{method.upper()} {path}") not in TAKES_MORE | SIGNED
)
SQL = [
    *("'", '"', "' OR '1'='1", "' OR 1=1 --", "'; DROP TABLE users; --", "1; SELECT pg_sleep(6)"),
    *(
        "' || pg_sleep(6) || '",
        "\\' OR 1=1 --",
        "%27%20OR%201=1",
        "') UNION SELECT password_hash FROM users --",
    ),
    *(
        "price; DROP TABLE products",
        "(SELECT 1)",
        "id DESC",
        "1/0",
        "$1",
        ":q",
        "%s",
        "%(x)s",
        "{0}",
        "\\",
        "%",
        "_",
    ),
]
# A product of two numbers that turns up nowhere else, as 49 does in a time of day.
INJECTED = "{{907*7013}} ${907*7013} #{907*7013} <%= 907*7013 %> {% raw %} <script>alert(1)</script> %s {0}"
EVALUATED = "6360791"
CRLF = ["x\r\nBcc: victim@example.com", "x\nBcc: victim@example.com", "x\rBcc: victim@example.com"]


def caller_of(world: World, operation: Operation) -> Client:
    """Return somebody whom the operation answers, at the service itself."""
    audience = CASES[operation.name].audience
    url = world.suite.service_urls[operation.service]
    if audience in PAIRS:
        scope = operation.facts["x-scope"]
        return Client(url, service_token(world.suite.env, audience, scope=scope))
    who = world.admin if DECLARED.get(audience, audience) == "admin" else world.owner
    return Client(url, who.token, who.user)


def valid(world: World, operation: Operation) -> tuple[Client, str, Any]:
    """Make a request that would work: who asks, for what, with which body."""
    case, caller = CASES[operation.name], caller_of(world, operation)
    path = operation.path.format(**case.path(world))
    if operation.schema is None:
        return caller, path, None
    return caller, path, {**operation.example(), **case.body(world, caller)}


def objects(value: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each object in a body, with its place."""
    if isinstance(value, dict):
        yield where, value
        for name, inner in value.items():
            yield from objects(inner, f"{where}{name}.")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from objects(inner, f"{where}{number}.")


class TestFieldsOfOthersBusiness:
    @pytest.mark.parametrize("name", WRITES)
    def test_are_refused_by_name(self, documented: Mapping[str, Operation], world: World, name: str) -> None:
        operation = documented[name]
        assert operation.schema is not None
        caller, path, body = valid(world, operation)
        for where, inner in objects(body):
            known = set(operation.schema["properties"]) if where == "" else set(inner)
            extra = {k: v for k, v in NOT_YOURS.items() if k not in known}
            kept = dict(inner)
            inner |= extra
            reply = caller.send(operation.method, path, json=body, prefix="")
            inner.clear()
            inner |= kept
            named = {error["field"] for error in reply.refused(422, "validation_error")["errors"]}
            assert {where + field for field in extra} <= named

    @pytest.mark.parametrize("name", [*WRITES, *SIGNED])
    def test_are_closed_out_by_the_document(self, documented: Mapping[str, Operation], name: str) -> None:
        schema = documented[name].schema
        assert schema is not None
        assert schema["additionalProperties"] is False

    def test_leave_no_trace(self, anyone: Client, world: World) -> None:
        account = world.account()
        anyone.post("/register", account | {"role": "admin"}).invalid("role")
        found = execute(
            world.suite, "user-service", "SELECT 1 FROM users WHERE email = %s", (account["email"],)
        )
        assert found == []
        world.owner.put("/profile", {"role": "admin", "email_verified": True}).invalid(
            "role", "email_verified"
        )
        assert world.owner.get("/profile").expect(200)["role"] == "customer"


class TestSql:
    def lists(self, documented: Mapping[str, Operation]) -> list[tuple[Operation, str]]:
        """Return every parameter of every list."""
        return [
            (operation, parameter["name"])
            for operation in documented.values()
            for parameter in operation.parameters("query")
        ]

    def test_in_a_parameter_is_a_value_like_any_other(self, documented, world: World) -> None:
        asked = 0
        for operation, parameter in self.lists(documented):
            caller, path, _ = valid(world, operation)
            for text in SQL:
                reply = caller.get(f"{path}?{parameter}={quote(text)}", prefix="")
                assert reply.status in (200, 400, 422), (reply.request, reply.raw[:300])
                assert reply.seconds < 3, reply.request
                asked += 1
        assert asked > 400

    @pytest.mark.parametrize("text", ["' OR '1'='1", "%", "_", "%%", "\\", "') OR (1=1"])
    def test_in_a_search_finds_nothing(self, world: World, text: str) -> None:
        world.product_id()
        assert world.owner.get(f"/products?q={quote('zzz' + text)}").expect(200)["items"] == []
        assert world.admin.get(f"/users?q={quote('zzz' + text)}").expect(200)["items"] == []

    def test_in_an_id_is_nowhere(self, documented: Mapping[str, Operation], world: World) -> None:
        for operation in documented.values():
            ids = [p["name"] for p in operation.parameters("path") if p["name"].endswith("_id")]
            if not ids:
                continue
            caller = caller_of(world, operation)
            for text in SQL:
                path = operation.path.format(**dict.fromkeys(ids, quote(text, safe="")))
                caller.send(operation.method, path, prefix="").refused(404, "not_found")

    def test_in_a_cursor_is_refused(self, world: World) -> None:
        for _ in range(3):
            world.order_id()
        good = world.owner.get("/orders?limit=1").expect(200)["next_cursor"]
        for place in range(len(good)):
            for letter in "A'-":
                bad = good[:place] + letter + good[place + 1 :]
                assert world.owner.get(f"/orders?cursor={quote(bad)}").status in (200, 400)

    def test_in_a_text_is_kept_as_it_is(self, world: World) -> None:
        for text in SQL:
            made = world.admin.post("/products", {"name": text, "price": "1.00"}).expect(201)
            assert made["name"] == text.strip()
        world.admin.get("/products").expect(200)


class TestTexts:
    @pytest.mark.parametrize("text", CRLF)
    def test_with_line_breaks_reach_no_header_of_a_mail(self, world: World, text: str) -> None:
        mail = {"to": "somebody@example.com", "subject": "s", "body": "b"}
        world.admin.post("/notifications/email", mail | {"subject": text}).invalid("subject")
        to = text.replace("x", "x@example.com", 1)
        world.admin.post("/notifications/email", mail | {"to": to}).invalid("to")
        world.owner.put("/profile", {"email": to, "current_password": "x"}).invalid("email")
        world.owner.put("/profile", {"username": text}).invalid("username")
        world.owner.put("/profile", {"nickname": text}).invalid("nickname")
        Client(world.suite.url).post("/register", world.account() | {"email": to}).invalid("email")

    @pytest.mark.parametrize(
        "to", ["a@example.com,b@example.com", "a@example.com b@example.com", "<a@example.com>", "a@b;c@d.com"]
    )
    def test_name_one_recipient(self, world: World, to: str) -> None:
        mail = {"to": to, "subject": "s", "body": "b"}
        world.admin.post("/notifications/email", mail).invalid("to")

    def test_with_line_breaks_in_a_product_stay_on_one_line(self, world: World, mailbox: Mailbox) -> None:
        sku = word()
        product = {"name": f"{sku} tea\r\nBcc: victim@example.com", "price": "1.00", "stock": 2, "sku": sku}
        made = world.admin.post("/products", product | {"low_stock_threshold": 1}).expect(201)
        line = {"product_id": made["id"], "quantity": 1}
        world.owner.post("/orders", {"items": [line]}).expect(201)
        [mail, *_] = mailbox.wait(world.suite.env["ADMIN_EMAIL"], sku)
        assert "bcc" not in {name.lower() for name in mail["headers"]}
        assert [to["address"] for to in mail["to"]] == [world.suite.env["ADMIN_EMAIL"]]
        assert not re.search(r"[\r\n]", mail["subject"])

    def test_with_templates_are_shown_as_they_are(self, world: World, mailbox: Mailbox) -> None:
        made = world.admin.post("/products", {"name": INJECTED, "price": "1.00", "stock": 5}).expect(201)
        order = {
            "items": [{"product_id": made["id"], "quantity": 1}],
            "address": ADDRESS | {"street": INJECTED},
            "remark": INJECTED,
        }
        placed = world.owner.post("/orders", order).expect(201)
        world.owner.put("/profile", {"nickname": "{{907*7013}}<i>n</i>"}).expect(200)
        assert world.owner.user is not None
        [mail, *_] = mailbox.wait(world.owner.user["email"], placed["id"][-8:].upper())
        assert INJECTED in mail["text"]
        assert "<script>" not in mail["html"]
        assert "&lt;script&gt;" in mail["html"]
        assert EVALUATED not in mail["text"].replace(placed["id"], "")

    @pytest.mark.parametrize("key", ["a b", "a\tb", "é", "x" * 256, ""])
    def test_of_an_idempotency_key_are_visible_ascii(self, world: World, key: str) -> None:
        sent = {"Idempotency-Key": key.encode("utf-8").decode("latin-1")}
        reply = world.owner.post("/orders", {"items": []}, headers=sent)
        reply.refused(400, "invalid_idempotency_key")

    @pytest.mark.parametrize("name", ["X-Request-ID", "Idempotency-Key", "traceparent", "X-Forwarded-For"])
    def test_of_a_header_never_make_another(self, running_suite: Suite, name: str) -> None:
        for break_ in ("\r\n ", "\r", "\n", "%0d%0a", "\\r\\n", "\u560d\u560a", "\x00"):
            value = f"x{break_}X-Injected: 1".encode()
            head = f"GET /api/v1/products?limit=1 HTTP/1.1\r\nHost: localhost\r\n{name}: ".encode()
            for url in (running_suite.url, running_suite.service_urls["product-service"]):
                heard = exchange(url, head + value + b"\r\nConnection: close\r\n\r\n")
                answered = heard.raw.partition(b"\r\n\r\n")[0].lower()
                assert b"x-injected" not in answered
                assert set(heard.statuses) <= {200, 400}, (value, heard)

    @pytest.mark.parametrize(
        "name",
        [
            "..%2f..%2fetc%2fpasswd",
            "%2e%2e/page.js",
            "....//page.js",
            "..%5cpage.js",
            "page.js%00",
            "%2fetc%2fpasswd",
        ],
    )
    def test_of_a_path_leave_no_folder(self, running_suite: Suite, name: str) -> None:
        for url in (running_suite.url, running_suite.service_urls["user-service"]):
            heard = exchange(
                url, f"GET /docs/{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
            )
            assert set(heard.statuses) <= {404, 400}, heard
            assert b"root:" not in heard.raw


# One write of each service, whose body is parsed before anything else is looked at.
DOORS = {
    "user-service": ("PUT", "/profile"),
    "product-service": ("POST", "/products"),
    "order-service": ("POST", "/orders"),
    "notification-service": ("PUT", "/notifications/preferences"),
}
LEVELS = 100_000
TEN_MEGABYTES = 10_000_000


@pytest.fixture(params=SERVICES)
def door(request: pytest.FixtureRequest, world: World) -> tuple[Client, str, str]:
    """Return an administrator at a service, and a write of it."""
    method, path = DOORS[request.param]
    return Client(world.suite.service_urls[request.param], world.admin.token), method, path


def push(door: tuple[Client, str, str], raw: bytes, headers: Mapping[str, str] = JSON) -> Reply:
    """Send a body as it is."""
    client, method, path = door
    return client.send(method, path, data=raw, headers=headers)


class TestBodies:
    @pytest.mark.parametrize(
        "raw",
        [
            b"[" * LEVELS,
            b"[" * LEVELS + b"]" * LEVELS,
            b'{"a":' * LEVELS + b"1" + b"}" * LEVELS,
            b'{"name": ' + b"[" * LEVELS + b"]" * LEVELS + b"}",
            b'[{"a":' * (LEVELS // 2),
        ],
        ids=["open", "lists", "objects", "in a field", "mixed"],
    )
    def test_too_deep_are_400(self, door, raw: bytes) -> None:
        reply = push(door, raw)
        reply.refused(400, "invalid_json")
        assert reply.seconds < 3

    def test_of_ten_megabytes_are_413(self, door, world: World) -> None:
        raw = json.dumps({"name": "x" * TEN_MEGABYTES}).encode()
        push(door, raw).refused(413, "payload_too_large")
        client, method, path = door
        public = Client(world.suite.url, client.token)
        push((public, method, path), raw).refused(413, "payload_too_large")

    def test_of_ten_megabytes_in_chunks_are_413(self, door) -> None:
        client, method, path = door
        pieces = iter([b'{"name": "'] + [b"x" * 100_000] * (TEN_MEGABYTES // 100_000))
        headers = {"Authorization": f"Bearer {client.token}", "Transfer-Encoding": "chunked", **JSON}
        answer = POOL.request(method, f"{client.url}/api/v1{path}", body=pieces, headers=headers)
        assert (answer.status, answer.json()["code"]) == (413, "payload_too_large")

    @pytest.mark.parametrize(
        "raw",
        [
            b'{"name": "\xff"}',
            b'{"name": "\xc0\x80"}',
            b'{"name": "\xed\xa0\x80"}',
            b'{"name": "\xf8\x88\x80\x80\x80"}',
            b'{"name": "\xe4\xbd"}',
            '{"name": "x"}'.encode("utf-16"),
            '{"name": "x"}'.encode("utf-32"),
            b'{"name": "a\0b"}',
            b'\0{"name": "x"}',
            b'{"name": NaN}',
            b'{"name": Infinity}',
            b'{"name": -Infinity}',
            b"",
        ],
    )
    def test_that_are_no_utf8_json_are_400(self, door, raw: bytes) -> None:
        reply = push(door, raw)
        absent = raw == b"" and door[1:] in (("PUT", "/profile"), ("POST", "/orders"))
        if not absent:
            reply.refused(400, "invalid_json")

    @pytest.mark.parametrize("literal", ['"a\\u0000b"', '"\\ud800"', '"\\udfff\\ud800"', '"x\\ud83d"'])
    @pytest.mark.parametrize("name", WRITES)
    def test_with_texts_that_no_database_holds_are_refused(
        self, documented: Mapping[str, Operation], world: World, name: str, literal: str
    ) -> None:
        operation = documented[name]
        assert operation.schema is not None
        body = operation.example()
        texts = [k for k, v in operation.schema["properties"].items() if _takes_text(operation, v)]
        client = caller_of(world, operation)
        path = operation.path.format(**{p["name"]: "1" for p in operation.parameters("path")})
        for field in texts:
            raw = json.dumps(body | {field: "@"}).replace('"@"', literal).encode()
            reply = client.send(operation.method, path, data=raw, headers=JSON, prefix="")
            assert 400 <= reply.status < 500, (field, reply.raw[:300])

    @pytest.mark.parametrize(
        "literal",
        [
            *("9223372036854775808", "-9223372036854775809", "1" + "0" * 30, "1" * 4000, "1" * 5000),
            *("1e400", "1e-400", "1E1000000", "1e999999999999", "-0.0", "0.1e1", "1.0", "1.5"),
            *("true", "[]", '"1"'),
        ],
        ids=lambda literal: literal[:24],
    )
    def test_with_odd_numbers_are_refused(self, world: World, literal: str) -> None:
        product, token = world.product_id(), world.admin.token
        places = [
            ("order-service", "PUT", f"/cart/items/{product}", "quantity", {}),
            ("product-service", "POST", f"/products/{product}/stock", "delta", {"reason": "x"}),
            ("product-service", "POST", "/products", "stock", {"name": "x", "price": "1.00"}),
            ("notification-service", "POST", "/notifications/push", "user_id", {"title": "t", "body": "b"}),
            ("order-service", "POST", "/orders", "address_id", {}),
        ]
        for service, method, path, field, rest in places:
            raw = json.dumps(rest | {field: "@"}).replace('"@"', literal).encode()
            client = Client(world.suite.service_urls[service], token)
            reply = client.send(method, path, data=raw, headers=JSON)
            assert reply.status in (400, 422), (path, literal[:30], reply.raw[:300])

    @pytest.mark.parametrize(
        "literal", ["1e400", "1E1000000", "1e-400", "-1", "0.001", "1" * 400, '"1e2"', '"٣"', '"NaN"']
    )
    def test_with_odd_prices_are_refused(self, world: World, literal: str) -> None:
        raw = b'{"name": "x", "price": ' + literal.encode() + b"}"
        reply = world.admin.send("POST", "/products", data=raw, headers=JSON)
        assert reply.status in (400, 422), reply.raw[:300]

    def test_with_a_field_twice_are_read_as_one(self, world: World) -> None:
        raw = b'{"quantity": 1, "quantity": 2}'
        path = f"/cart/items/{world.product_id()}"
        reply = world.owner.send("PUT", path, data=raw, headers=JSON)
        assert reply.status in (200, 400, 422)
        raw = json.dumps(world.account())[:-1].encode() + b', "role": "admin", "role": "customer"}'
        reply = world.owner.send("POST", "/register", data=raw, headers=JSON)
        reply.invalid("role")

    @pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "identity, gzip", "x"])
    def test_that_are_compressed_are_not_unpacked(self, door, coding: str) -> None:
        bomb = gzip.compress(b'{"name": "' + b"x" * TEN_MEGABYTES + b'"}')
        reply = push(door, bomb, {**JSON, "Content-Encoding": coding})
        assert reply.status in (400, 413, 415)
        assert reply.seconds < 2

    @pytest.mark.parametrize(
        "kind",
        [
            *("application/xml", "text/xml", "multipart/form-data; boundary=x", "application/x-yaml"),
            *("application/octet-stream", "json", "application/", "/", ";", "\xff"),
            *("application/merge-patch+json", "application/vnd.api+json"),
        ],
    )
    def test_of_another_kind_are_415(self, door, kind: str) -> None:
        push(door, b'{"name": "x"}', {"Content-Type": kind}).refused(415, "unsupported_media_type")

    @pytest.mark.parametrize("charset", ["utf-16", "latin-1", "utf-7", "nonsense"])
    def test_are_utf8_whatever_they_claim(self, door, charset: str) -> None:
        reply = push(door, b'{"\xff": 1}', {"Content-Type": f"application/json; charset={charset}"})
        reply.refused(400, "invalid_json")

    def test_in_chunks_are_read_alike(self, world: World) -> None:
        url = f"{world.suite.url}/api/v1/cart/items/{world.product_id()}"
        headers = {"Authorization": f"Bearer {world.owner.token}", "Transfer-Encoding": "chunked", **JSON}
        answer = POOL.request("PUT", url, body=iter([b'{"quan', b'tity": 3}']), headers=headers)
        assert answer.status == 200


def _takes_text(operation: Operation, schema: Mapping[str, Any]) -> bool:
    schema = operation.resolve(schema)
    return any(
        option.get("type") == "string" and "enum" not in option for option in schema.get("anyOf", [schema])
    )


class TestAddresses:
    @pytest.mark.parametrize(
        "text", ["%00", "a%00b", "%ff", "%c0%80", "%ed%a0%80", "%u0000", "%0a", "%0d%0aX:1", "%", "%zz"]
    )
    def test_with_odd_bytes_are_no_fault(self, documented, world: World, text: str) -> None:
        asked = 0
        for operation in documented.values():
            for parameter in operation.parameters("query"):
                caller, path, _ = valid(world, operation)
                answer = POOL.request(
                    "GET",
                    f"{caller.url}{path}?{parameter['name']}={text}",
                    headers={"Authorization": f"Bearer {caller.token}"},
                )
                assert answer.status in (200, 400, 422), (
                    operation.name,
                    parameter["name"],
                    answer.data[:300],
                )
                asked += 1
            ids = {p["name"]: text for p in operation.parameters("path")}
            if ids and operation.method == "GET":
                caller = caller_of(world, operation)
                answer = POOL.request("GET", caller.url + operation.path.format(**ids))
                assert answer.status in (400, 404), (operation.name, answer.data[:300])
        assert asked > 20

    def test_with_a_parameter_many_times_are_no_fault(self, world: World) -> None:
        many = "&".join(f"q={n}&limit={n}&x{n}[]=1" for n in range(200))
        world.owner.get(f"/products?limit=1&{many}").expect(200)


@pytest.mark.parametrize(
    ("password", "tail"),
    [
        ("密" * 24 + "x", "密" * 24 + "y"),
        ("p" * 72 + "1", "p" * 72 + "2"),
        ("长" * 99 + "甲", "长" * 99 + "乙"),
    ],
    ids=["73 bytes of 25 characters", "73 bytes", "100 characters"],
)
def test_long_passwords_count_to_their_last_letter(
    anyone: Client, world: World, password: str, tail: str
) -> None:
    account = world.account() | {"password": password}
    anyone.post("/register", account).expect(201)
    wrong = {"username": account["username"], "password": tail}
    anyone.post("/login", wrong).refused(401, "invalid_credentials")
    anyone.post("/login", wrong | {"password": password[:-1]}).refused(401, "invalid_credentials")
    started = time.monotonic()
    anyone.login(account["username"], password)
    assert time.monotonic() - started < 5
    hashes = "SELECT password_hash FROM users WHERE username = %s"
    [(kept,)] = execute(world.suite, "user-service", hashes, (account["username"],))
    assert password not in kept


def test_the_shop_is_well_afterwards(running_suite: Suite) -> None:
    def unwell() -> list[str]:
        healths = {
            service: Client(url).get("/health", prefix="")
            for service, url in running_suite.service_urls.items()
        }
        return [service for service, health in healths.items() if health.body["status"] != "ok"]

    assert eventually(lambda: not unwell()), unwell()
