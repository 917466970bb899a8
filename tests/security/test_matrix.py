"""Who may call what: every operation of the four documents as each kind of caller.

The documents say who may call; the table here says it once more, with what they can't say (whose object it
is) and how to make a request that works. So an operation that is declared wrongly is noticed, and a new one
has to be entered.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from tests.apps import SERVICES as PACKAGES
from tests.apps import make_app, openapi
from tests.e2e.client import Client, Reply
from tests.e2e.conftest import PASSWORD, word
from tests.e2e.suite import SERVICES
from tests.security.documents import METHODS, Operation
from tests.security.insides import PAIRS, execute, service_token
from tests.security.report import Report
from tests.security.world import ADDRESS, World

PEOPLE = ("anonymous", "owner", "other", "admin")
ROLES = (*PEOPLE, *PAIRS)
GRANTED = "2xx"


def _answers(*people: object) -> dict[str, object]:
    """Say what each of the people gets; services are nobody outside /internal."""
    return {**dict(zip(PEOPLE, people, strict=True)), **dict.fromkeys(PAIRS, 401)}


# Expected outcome by audience.
EXPECTED: dict[str, Mapping[str, object]] = {
    "anyone": dict.fromkeys(ROLES, GRANTED),
    # A provider proves itself by its signature, whoever else it may be.
    "provider": dict.fromkeys(ROLES, GRANTED),
    "optional": dict.fromkeys(ROLES, GRANTED),
    "user": _answers(401, GRANTED, GRANTED, GRANTED),
    "own": _answers(401, GRANTED, 404, 404),
    "own or admin": _answers(401, GRANTED, 404, GRANTED),
    "admin": _answers(401, 403, 403, GRANTED),
    **{pair: {**dict.fromkeys(ROLES, 401), pair: GRANTED} for pair in PAIRS},
}
# How the documents call these audiences.
DECLARED = {"provider": "anyone", "own": "user", "own or admin": "user"} | dict.fromkeys(PAIRS, "service")


@dataclass(frozen=True)
class Case:
    """An operation's audience, and what a request needs beside the smallest example."""

    audience: str
    path: Callable[[World], Mapping[str, object]] = lambda world: {}
    body: Callable[[World, Client], Mapping[str, Any]] = lambda world, caller: {}
    signed: bool = False
    ends_session: bool = False


def _id(**names: str) -> Callable[[World], Mapping[str, object]]:
    """Name the maker of each path parameter."""
    return lambda world: {name: getattr(world, maker)() for name, maker in names.items()}


def _order(maker: str) -> Callable[[World], Mapping[str, object]]:
    return _id(order_id=maker)


def _user_id(world: World) -> Mapping[str, object]:
    return {"user_id": world.owner.user["id"]}  # type: ignore[index]


def _password(world: World, caller: Client) -> Mapping[str, Any]:
    return {"current_password": PASSWORD, "new_password": PASSWORD}


def _lines(world: World, caller: Client) -> Mapping[str, Any]:
    return {"items": [{"product_id": world.product_id(), "quantity": 1}]}


def _reservation(world: World, caller: Client) -> Mapping[str, Any]:
    return {"order_id": world.order_id(), **_lines(world, caller)}


V1, INTERNAL = "/api/v1", "/internal/v1"
ABOUT = ("/health", "/health/live", "/metrics", "/openapi.json")
ORDER, ADDRESS_PATH = f"{V1}/orders/{{order_id}}", f"{V1}/profile/addresses/{{address_id}}"
PRODUCT, CATEGORY = f"{V1}/products/{{product_id}}", f"{V1}/categories/{{category_id}}"
NOTIFICATIONS, USER = f"{V1}/notifications", f"{V1}/users/{{user_id}}"

CASES: dict[str, Case] = {
    **{f"GET {path} ({service})": Case("anyone") for service in SERVICES for path in ABOUT},
    "GET /docs": Case("anyone"),
    "GET /docs/": Case("anyone"),
    "GET /docs/{name}": Case("anyone", path=lambda w: {"name": "page.js"}),
    "GET /.well-known/jwks.json": Case("anyone"),
    # Accounts.
    f"POST {V1}/register": Case("anyone", body=lambda w, c: w.account()),
    f"POST {V1}/login": Case(
        "anyone",
        body=lambda w, c: {"username": w.owner.user["username"], "password": PASSWORD},  # type: ignore[index]
    ),
    f"POST {V1}/token/refresh": Case(
        "anyone", body=lambda w, c: {"refresh_token": w.sign_in(w.owner).refresh_token}
    ),
    f"POST {V1}/logout": Case("user", ends_session=True),
    f"POST {V1}/password/forgot": Case("anyone"),
    f"POST {V1}/password/reset": Case(
        "anyone",
        body=lambda w, c: {"token": w.mail_token(w.newcomer(), "recovery"), "new_password": PASSWORD},
    ),
    f"POST {V1}/email/verify": Case(
        "anyone", body=lambda w, c: {"token": w.mail_token(w.newcomer(), "verification")}
    ),
    f"GET {V1}/sessions": Case("user"),
    f"DELETE {V1}/sessions/{{session_id}}": Case("own", path=_id(session_id="session_id")),
    f"GET {V1}/profile": Case("user"),
    f"PUT {V1}/profile": Case("user", body=lambda w, c: {"nickname": "n"}),
    f"PUT {V1}/profile/password": Case("user", body=_password),
    f"GET {V1}/profile/addresses": Case("user"),
    f"POST {V1}/profile/addresses": Case("user", body=lambda w, c: ADDRESS),
    f"GET {ADDRESS_PATH}": Case("own", path=_id(address_id="address_id")),
    f"PUT {ADDRESS_PATH}": Case("own", path=_id(address_id="address_id"), body=lambda w, c: ADDRESS),
    f"DELETE {ADDRESS_PATH}": Case("own", path=_id(address_id="address_id")),
    f"GET {V1}/users": Case("admin"),
    f"GET {USER}": Case("admin", path=_user_id),
    f"PATCH {USER}": Case("admin", path=_user_id, body=lambda w, c: {"active": True}),
    f"GET {INTERNAL}/users/{{user_id}}": Case("NOTIFICATION_USER_KEY", path=_user_id),
    f"GET {INTERNAL}/users/{{user_id}}/addresses/{{address_id}}": Case(
        "ORDER_USER_KEY", path=lambda w: {**_user_id(w), "address_id": w.address_id()}
    ),
    f"GET {INTERNAL}/admins": Case("NOTIFICATION_USER_KEY"),
    f"GET {INTERNAL}/events": Case("NOTIFICATION_USER_KEY"),
    f"POST {INTERNAL}/users/{{user_id}}/email-token": Case(
        "NOTIFICATION_USER_KEY", path=_user_id, body=lambda w, c: {"purpose": "recovery"}
    ),
    # Catalogue.
    f"GET {V1}/products": Case("optional"),
    f"POST {V1}/products": Case("admin"),
    f"GET {PRODUCT}": Case("optional", path=_id(product_id="product_id")),
    f"PUT {PRODUCT}": Case("admin", path=_id(product_id="product_id")),
    f"DELETE {PRODUCT}": Case("admin", path=_id(product_id="product_id")),
    f"POST {PRODUCT}/stock": Case("admin", path=_id(product_id="product_id")),
    f"GET {PRODUCT}/stock/movements": Case("admin", path=_id(product_id="product_id")),
    f"GET {V1}/categories": Case("anyone"),
    f"POST {V1}/categories": Case("admin"),
    f"PUT {CATEGORY}": Case("admin", path=_id(category_id="category_id")),
    f"DELETE {CATEGORY}": Case("admin", path=_id(category_id="category_id")),
    f"POST {INTERNAL}/reservations": Case("ORDER_PRODUCT_KEY", body=_reservation),
    f"DELETE {INTERNAL}/reservations/{{order_id}}": Case("ORDER_PRODUCT_KEY", path=_order("order_id")),
    f"POST {INTERNAL}/reservations/{{order_id}}/sale": Case("ORDER_PRODUCT_KEY", path=_order("order_id")),
    f"GET {INTERNAL}/products/{{product_id}}/reservations": Case(
        "ORDER_PRODUCT_KEY", path=_id(product_id="product_id")
    ),
    f"POST {INTERNAL}/products/lookup": Case("ORDER_PRODUCT_KEY"),
    f"GET {INTERNAL}/books": Case("ORDER_PRODUCT_KEY"),
    # Cart and orders.
    f"GET {V1}/cart": Case("user"),
    f"DELETE {V1}/cart": Case("user"),
    f"PUT {V1}/cart/items/{{product_id}}": Case("user", path=_id(product_id="product_id")),
    f"DELETE {V1}/cart/items/{{product_id}}": Case("user", path=_id(product_id="product_in_carts")),
    f"POST {V1}/orders": Case("user", body=_lines),
    f"GET {V1}/orders": Case("user"),
    f"GET {ORDER}": Case("own", path=_order("order_id")),
    f"GET {ORDER}/history": Case("own or admin", path=_order("order_id")),
    f"POST {ORDER}/pay": Case("own", path=_order("order_id"), body=lambda w, c: {"method": "sandbox"}),
    f"POST {ORDER}/cancel": Case("own or admin", path=_order("order_id")),
    f"POST {ORDER}/complete": Case("own", path=_order("shipped_order_id")),
    f"POST {ORDER}/ship": Case("admin", path=_order("paid_order_id")),
    f"POST {ORDER}/refund": Case("admin", path=_order("paid_order_id")),
    f"GET {V1}/admin/orders": Case("admin"),
    f"GET {V1}/admin/orders/{{order_id}}": Case("admin", path=_order("order_id")),
    f"GET {V1}/payments/methods": Case("anyone"),
    f"POST {V1}/payments/webhooks/{{method}}": Case(
        "provider", path=lambda w: {"method": "sandbox"}, signed=True
    ),
    # Notifications.
    f"POST {NOTIFICATIONS}/email": Case("admin"),
    f"POST {NOTIFICATIONS}/sms": Case("admin"),
    f"POST {NOTIFICATIONS}/push": Case("admin", body=lambda w, c: _user_id(w)),
    f"GET {NOTIFICATIONS}/push/public-key": Case("anyone"),
    f"POST {NOTIFICATIONS}/push/subscriptions": Case("user", body=lambda w, c: w.subscription()),
    f"DELETE {NOTIFICATIONS}/push/subscriptions": Case(
        "user", body=lambda w, c: {"endpoint": f"https://push.example.com/{word()}"}
    ),
    f"GET {NOTIFICATIONS}/history": Case("user"),
    f"POST {NOTIFICATIONS}/{{notification_id}}/retry": Case(
        "admin", path=_id(notification_id="failed_notification_id")
    ),
    f"POST {INTERNAL}/notifications/lookup": Case("ORDER_NOTIFICATION_KEY"),
    f"POST {INTERNAL}/notifications/forget": Case("ORDER_NOTIFICATION_KEY"),
    f"GET {NOTIFICATIONS}/preferences": Case("user"),
    f"PUT {NOTIFICATIONS}/preferences": Case("user"),
}


def _token(world: World, role: str, operation: Operation, *, anew: bool) -> str | None:
    """Return what a role sends to an operation: a person's token, or a service's for just this."""
    if role in PAIRS:
        scope = operation.facts.get("x-scope", "users.read")
        return service_token(world.suite.env, role, scope=scope, audience=operation.service)
    if role == "anonymous":
        return None
    who: Client = getattr(world, role)
    return (world.sign_in(who) if anew else who).token


def _call(world: World, role: str, operation: Operation, given: Mapping[str, object]) -> Reply:
    """Call an operation as somebody; what only services see is asked at the service's own port."""
    case = CASES[operation.name]
    url = world.suite.url if operation.path.startswith(V1) else world.suite.service_urls[operation.service]
    caller = Client(url, _token(world, role, operation, anew=case.ends_session))
    path = operation.path.format(**given)
    if case.signed:
        raw, headers = world.webhook()
        return caller.send(operation.method, path, data=raw, headers=headers, prefix="")
    if operation.schema is None:
        return caller.send(operation.method, path, prefix="")
    body = {**operation.example(), **case.body(world, caller)}
    return caller.send(operation.method, path, json=body, prefix="")


def _shown(reply: Reply) -> object:
    # A page may lead to another one.
    return GRANTED if reply.status < 400 else reply.status


def _in_order(audience: str) -> list[str]:
    """List the roles, those who are refused first: what they tried must still be there for the others."""
    return sorted(ROLES, key=lambda role: EXPECTED[audience][role] == GRANTED)


@pytest.mark.parametrize("name", CASES)
def test_an_operation_answers_each_role_as_it_should(
    documented: dict[str, Operation], world: World, report: Report, name: str
) -> None:
    operation, case = documented[name], CASES[name]
    expected, found = EXPECTED[case.audience], {}
    given = case.path(world)
    used = False
    for role in _in_order(case.audience):
        if used and operation.method != "GET":
            given = case.path(world)
        reply = _call(world, role, operation, given)
        # A machine that is busy with other work turns passwords away for a moment, whoever sends them.
        found[role] = _shown(reply if reply.status != 503 else _call(world, role, operation, given))
        used = used or found[role] == GRANTED
    table = report.table("Operations × roles")
    for role in ROLES:
        table.add(name, role, found[role] if found[role] == expected[role] else f"{found[role]} WRONG")
    assert found == expected


def test_every_operation_is_in_the_table(documented: dict[str, Operation]) -> None:
    assert documented.keys() == CASES.keys()


@pytest.mark.parametrize("name", CASES)
def test_an_operation_is_declared_for_whom_it_is(documented: dict[str, Operation], name: str) -> None:
    operation, audience = documented[name], CASES[name].audience
    assert operation.audience == DECLARED.get(audience, audience)
    schemes = {scheme for option in operation.facts.get("security", []) for scheme in option}
    needed = {"user": {"accessToken"}, "optional": {"accessToken"}, "admin": {"accessToken"}}
    assert schemes == needed.get(operation.audience, {"serviceToken"} if audience in PAIRS else set())
    assert ("x-scope" in operation.facts) == (audience in PAIRS)
    assert operation.path.startswith("/internal/") == (audience in PAIRS)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_route_is_in_the_document_and_the_other_way_round(package: str) -> None:
    rules = {
        (method, rule.rule.translate({ord("<"): "{", ord(">"): "}"}))
        for rule in make_app(package).url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    served = {(method, _without_converters(path)) for method, path in rules}
    told = {
        (method.upper(), path)
        for path, item in openapi(package)["paths"].items()
        for method in METHODS
        if method in item
    }
    assert served == told


def _without_converters(path: str) -> str:
    return "/".join("{" + p.split(":")[-1] if p.startswith("{") and ":" in p else p for p in path.split("/"))


@pytest.mark.parametrize("service", SERVICES)
def test_what_runs_is_what_the_code_documents(documented: dict[str, Operation], service: str) -> None:
    running = {o.name: o.facts for o in documented.values() if o.service == service}
    document = openapi(service.replace("-", "_"))
    read = {
        o.name: o.facts
        for path, item in document["paths"].items()
        for method in METHODS
        if method in item and (o := Operation(service, method.upper(), path, item[method], document))
    }
    assert running == read


@pytest.mark.parametrize(
    ("pair", "scope", "path"),
    [
        ("ORDER_USER_KEY", "addresses.read", "/internal/v1/users/1"),
        ("NOTIFICATION_USER_KEY", "users.read", "/internal/v1/users/1/addresses/1"),
        ("NOTIFICATION_USER_KEY", "tokens.issue", "/internal/v1/admins"),
        ("NOTIFICATION_USER_KEY", "addresses.read", "/internal/v1/users/1/addresses/1"),
        ("ORDER_USER_KEY", "users.read", "/internal/v1/users/1"),
        ("ORDER_USER_KEY", "", "/internal/v1/users/1"),
        ("ORDER_PRODUCT_KEY", "products.read", "/internal/v1/books"),
    ],
)
def test_a_service_is_let_in_for_its_scope_alone(running_suite, pair: str, scope: str, path: str) -> None:
    token = service_token(running_suite.env, pair, scope=scope)
    url = running_suite.service_urls[PAIRS[pair][1]]
    Client(url, token).get(path, prefix="").refused(401, "unauthorized")


def test_a_webhook_without_its_signature_is_refused(world: World) -> None:
    raw, headers = world.webhook()
    for signature in ("", "t=1,v1=00", headers["X-Signature"][:-1] + "0", headers["X-Signature"][:-1] + "1"):
        if signature == headers["X-Signature"]:
            continue
        sent = {**headers, "X-Signature": signature}
        reply = world.owner.send("POST", "/payments/webhooks/sandbox", data=raw, headers=sent)
        reply.refused(400, "invalid_signature")


def test_nobody_ends_another_ones_subscription(world: World) -> None:
    mine = world.subscription()
    world.owner.post("/notifications/push/subscriptions", mine).expect(201)
    world.other.delete("/notifications/push/subscriptions", {"endpoint": mine["endpoint"]}).expect(204)
    kept = "SELECT user_id FROM push_subscriptions WHERE endpoint = %s"
    rows = execute(world.suite, "notification-service", kept, (mine["endpoint"],))
    assert rows == [(world.owner.user["id"],)]  # type: ignore[index]


def test_nobody_orders_to_another_ones_address(world: World) -> None:
    lines = [{"product_id": world.product_id(), "quantity": 1}]
    order = {"items": lines, "address_id": world.address_id()}
    world.other.post("/orders", order).invalid("address_id")
    world.owner.post("/orders", order).expect(201)
