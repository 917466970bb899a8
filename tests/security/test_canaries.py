"""Secrets that go through every flow, also those that fail, and are found nowhere afterwards."""

import json
import re
import time
from collections.abc import Callable, Iterator
from secrets import token_hex, token_urlsafe
from typing import Any
from uuid import UUID

import jwt
import pytest

from tests.e2e.client import POOL, Client, eventually
from tests.e2e.conftest import Mailbox, word
from tests.e2e.suite import SERVICES, Suite
from tests.security.evidence import Broker, everything, logs, spellings
from tests.security.report import Report
from tests.security.wire import exchange
from tests.security.world import World

TAP = "canaries"
# Settings that open something.
SECRET_SETTING = re.compile(r"_(PASSWORD|PASS|SECRET|KEY)$")
JSON = {"Content-Type": "application/json"}


class Canaries:
    """Secrets by what they are."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}
        # What is no secret, and stands in each kind of place: who finds that looks well enough.
        self.witnesses: dict[str, str] = {}

    def add(self, name: str, secret: str) -> str:
        """Remember a secret and return it."""
        self.kept[name] = secret
        return secret

    def make(self, name: str) -> str:
        """Make a secret of letters that occur nowhere else."""
        return self.add(name, f"canary-{token_hex(12)}")

    def take_tokens(self, name: str, who: Client) -> Client:
        """Remember somebody's tokens: of an access token its signature, for the rest is no secret."""
        assert who.token is not None
        self.add(f"access token {name}", who.token.rpartition(".")[2])
        self.add(f"refresh token {name}", who.refresh_token)
        return who


@pytest.fixture(scope="module")
def canaries(running_suite: Suite) -> Canaries:
    """Return the secrets, the settings' own to begin with."""
    canaries = Canaries()
    for name, value in running_suite.env.items():
        if SECRET_SETTING.search(name) and value:
            canaries.add(f"setting {name}", value)
    return canaries


@pytest.fixture(scope="module", autouse=True)
def tapped(running_suite: Suite) -> Iterator[Broker]:
    """Have every event of these tests copied aside."""
    broker = Broker(running_suite)
    broker.tap(TAP)
    yield broker
    broker.drop(TAP)


def sign_up(anyone: Client, canaries: Canaries) -> tuple[Client, dict[str, str]]:
    """Register and sign in with a password that is a canary."""
    name = f"c_{word()}"
    account = {"username": name, "email": f"{name}@example.com", "password": canaries.make("password")}
    anyone.post("/register", account).expect(201)
    return canaries.take_tokens("of the first session", anyone.login(name, account["password"])), account


def mistype(anyone: Client, canaries: Canaries, account: dict[str, str]) -> None:
    """Put passwords where they do not belong, or none is taken."""
    wrong = canaries.make("wrong password")
    anyone.post("/login", account | {"password": wrong}).invalid("email")
    login = {"username": account["username"], "password": wrong}
    anyone.post("/login", login).refused(401, "invalid_credentials")
    anyone.post("/login", {"username": canaries.make("password as name"), "password": wrong}).refused(
        401, "invalid_credentials"
    )
    twice = account | {"email": f"x{account['email']}", "password": canaries.make("password of a second try")}
    anyone.post("/register", twice).refused(409, "username_taken")
    misplaced = canaries.make("password in other fields")
    for field in ("username", "email", "phone", "locale", "pasword"):
        reply = anyone.post("/register", account | {field: f"{misplaced} \r\n"})
        assert reply.status == 422
        assert misplaced not in reply.raw.decode()
    named = {canaries.make("password as a field's name"): 1}
    anyone.post("/register", account | named)
    broken = canaries.make("password in broken JSON")
    anyone.send("POST", "/login", data=f'{{"password": "{broken}'.encode(), headers=JSON).refused(
        400, "invalid_json"
    )
    anyone.send("POST", "/login", data=f"password={broken}".encode()).refused(415, "unsupported_media_type")
    queried = canaries.make("password in the query")
    anyone.send("POST", f"/login?username=x&password={queried}", json={}).invalid("username")
    referrer = {"Referer": f"http://localhost/?password={canaries.make('password in the referrer')}"}
    anyone.get("/products", headers=referrer).expect(200)


def wear_tokens_out(anyone: Client, canaries: Canaries, first: Client, account: dict[str, str]) -> None:
    """Use tokens well and badly, until they are worth nothing."""
    for url in (first.url, *[anyone.url]):
        Client(url, first.token).get("/cart").expect(200)
    renewed = anyone.post("/token/refresh", {"refresh_token": first.refresh_token}).expect(200)
    canaries.add("refresh token that was renewed", renewed["refresh_token"])
    canaries.add("access token that was renewed", renewed["access_token"].rpartition(".")[2])
    anyone.post("/token/refresh", {"refresh_token": first.refresh_token}).refused(401, "token_reused")
    anyone.post("/token/refresh", {"refresh_token": canaries.make("refresh token of nobody")}).refused(
        401, "invalid_token"
    )
    anyone.post("/token/refresh", {"refresh_token": first.refresh_token, "token": first.token}).invalid(
        "token"
    )
    for scheme in ("Bearer", "Basic", "Token"):
        sent = {"Authorization": f"{scheme} {canaries.make(f'{scheme} credentials')}"}
        for path in ("/profile", "/cart", "/notifications/history"):
            anyone.get(path, headers=sent).refused(401, "unauthorized")
    anyone.get(f"/profile?access_token={first.token}").refused(401, "unauthorized")
    again = canaries.take_tokens(
        "of a session that is left", anyone.login(account["username"], account["password"])
    )
    again.post("/logout").expect(204)
    assert eventually(lambda: again.get("/profile").status == 401)


def recover(anyone: Client, canaries: Canaries, mailbox: Mailbox, account: dict[str, str]) -> None:
    """Use the tokens of mails, and set passwords by them."""
    address = account["email"]
    [welcome, *_] = mailbox.wait(address, "token=", seconds=60)
    verification = canaries.add("token of the welcome mail", _token_in(welcome))
    anyone.get(f"/products?token={verification}").expect(200)
    anyone.post("/email/verify", {"token": verification, "tokn": verification}).invalid("tokn")
    anyone.post("/email/verify", {"token": verification}).expect(204)
    anyone.post("/email/verify", {"token": verification})
    anyone.post("/password/forgot", {"email": address}).expect(202)
    mails = mailbox.wait(address, "token=", count=2, seconds=60)
    [recovery] = {_token_in(mail) for mail in mails} - {verification}
    canaries.add("token of the recovery mail", recovery)
    fresh = canaries.make("password after recovery")
    anyone.post("/password/reset", {"token": recovery, "new_password": "short"}).invalid("new_password")
    anyone.post("/password/reset", {"token": recovery, "new_password": fresh}).expect(204)
    anyone.post("/password/reset", {"token": recovery, "new_password": fresh})
    anyone.post("/password/reset", {"token": canaries.make("mail token of nobody"), "new_password": fresh})
    back = canaries.take_tokens("after recovery", anyone.login(account["username"], fresh))
    newest = canaries.make("password that was changed")
    wrong = {"current_password": canaries.make("wrong current password"), "new_password": newest}
    back.put("/profile/password", wrong).refused(403, "wrong_password")
    back.put("/profile", {"email": f"n{address}", "current_password": wrong["current_password"]}).refused(
        403, "wrong_password"
    )
    back.put("/profile/password", {"current_password": fresh, "new_password": newest}).expect(204)


def _token_in(mail: dict[str, Any]) -> str:
    found = re.search(r"token=([A-Za-z0-9_-]+)", mail["text"])
    assert found is not None
    return found[1]


def pay(world: World, canaries: Canaries) -> None:
    """Put card data wherever a payment takes or refuses something."""
    order = world.order_id()
    card = canaries.add("number of a card", f"4111 1111 1111 1111 {token_hex(6)}")
    pay = f"/orders/{order}/pay"
    token = canaries.make("payment token that is declined")
    world.owner.post(pay, {"method": "sandbox", "token": token}).refused(402, "payment_declined")
    keyed = {"Idempotency-Key": word()}
    remembered = {"method": "sandbox", "token": canaries.make("payment token under a key")}
    for _ in range(2):
        world.owner.post(pay, remembered, headers=keyed).refused(402, "payment_declined")
    world.owner.post(pay, {"method": "sandbox", "card_number": card, "cvc": card}).invalid(
        "card_number", "cvc"
    )
    world.owner.post(pay, {"method": card}).refused(422, "validation_error")
    world.owner.post(pay, {"method": "sandbox", "token": card * 20}).invalid("token")
    world.owner.send("POST", pay, data=f'{{"token": "{card}"'.encode(), headers=JSON).refused(
        400, "invalid_json"
    )
    signature = {"X-Signature": f"t=1,v1={canaries.make('signature of a webhook')}", **JSON}
    body = json.dumps({"id": card}).encode()
    world.owner.send("POST", "/payments/webhooks/sandbox", data=body, headers=signature)
    world.owner.post(pay, {"method": "sandbox"}).expect(200)


def leave_alone(suite: Suite, name: str, world: World) -> None:
    """Take something away for a moment, so that its address and login may stand in an exception."""
    with suite.without(name):
        for path in ("/products", "/profile", "/cart", "/notifications/history"):
            world.owner.get(path)
        for url in suite.service_urls.values():
            POOL.request("GET", f"{url}/health")
        account = {"username": f"c_{word()}", "email": f"{word()}@example.com", "password": token_urlsafe()}
        Client(suite.url).post("/register", account)
        time.sleep(2)
    well = eventually(
        lambda: all(_is_well(url) for url in suite.service_urls.values()), seconds=90, every=0.5
    )
    assert well, f"the services did not recover from {name}"


def _is_well(url: str) -> bool:
    answer = POOL.request("GET", f"{url}/health")
    return answer.status == 200 and answer.json()["status"] == "ok"


@pytest.fixture(scope="module")
def heard() -> list[tuple[str, str]]:
    """Keep what the queues held when all had been said: a broker that restarts forgets some of it."""
    return []


def test_secrets_go_through_every_flow(
    anyone: Client,
    world: World,
    canaries: Canaries,
    mailbox: Mailbox,
    tapped: Broker,
    heard: list[tuple[str, str]],
) -> None:
    first, account = sign_up(anyone, canaries)
    assert first.token is not None
    session = jwt.decode(first.token, options={"verify_signature": False})["sid"]
    canaries.witnesses = {
        "user_db public.users": account["email"],
        "notification_db public.notifications": account["email"],
        f"queue {TAP}": account["email"],
        "redis session:": session,
        "logs/nginx/access.log": "/api/v1/token/refresh",
    }
    mistype(anyone, canaries, account)
    wear_tokens_out(anyone, canaries, first, account)
    recover(anyone, canaries, mailbox, account)
    pay(world, canaries)
    assert len(canaries.kept) > 30
    assert eventually(lambda: "order.paid" in dict(tapped.messages()).get(f"queue {TAP}", ""))
    heard += tapped.messages()


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["redis", "postgres", "rabbitmq", "maildev"])
def test_what_is_away_is_not_told_with_its_password(running_suite: Suite, world: World, name: str) -> None:
    leave_alone(running_suite, name, world)


def tasks(tapped: Broker) -> str:
    """Return what waits for Celery, as the management API tells it."""
    return dict(tapped.messages()).get("queue notification.tasks", "")


@pytest.mark.thorough
def test_tasks_that_wait_hold_no_secret(
    running_suite: Suite, anyone: Client, canaries: Canaries, tapped: Broker, world: World
) -> None:
    with running_suite.without("notification-celery"):
        name = f"c_{word()}"
        account = {
            "username": name,
            "email": f"{name}@example.com",
            "password": canaries.make("password, later"),
        }
        anyone.post("/register", account).expect(201)
        anyone.post("/password/forgot", {"email": account["email"]}).expect(202)
        # Of an empty queue the text is `[]`.
        waiting = eventually(
            lambda: text if "payload" in (text := tasks(tapped)) else "",
            seconds=30,
        )
        [notification_id], named, _ = json.loads(json.loads(waiting)[0]["payload"])
        assert (str(UUID(notification_id)), named) == (notification_id, {}), (
            "a task names an id of its own alone"
        )
        assert find(canaries, "queue notification.tasks", waiting) == []


def find(canaries: Canaries, place: str, text: str) -> list[str]:
    """Name the secrets that stand in a text."""
    return [
        f"{name} in {place}"
        for name, secret in canaries.kept.items()
        if any(spelling in text for spelling in spellings(secret))
    ]


def test_secrets_are_found_nowhere(
    running_suite: Suite, canaries: Canaries, heard: list[tuple[str, str]], report: Report
) -> None:
    # What is on its way arrives: events, tasks, mails.
    time.sleep(3)
    found, places, seen = [], 0, set()
    table = report.table("Secrets × what was looked through")
    for place, text in [*heard, *everything(running_suite)]:
        found += find(canaries, place, text)
        places += 1
        seen |= {
            where for where, mark in canaries.witnesses.items() if place.startswith(where) and mark in text
        }
    for name in canaries.kept:
        table.add(name, f"found in {places} places", sum(hit.startswith(f"{name} in ") for hit in found))
    assert found == []
    assert seen == canaries.witnesses.keys()


def test_a_secret_that_leaks_would_be_found(running_suite: Suite, anyone: Client) -> None:
    leaked = Canaries()
    marker = leaked.make("request id")
    anyone.get("/products", headers={"X-Request-ID": marker}).expect(200)
    assert eventually(
        lambda: [hit for place, text in logs(running_suite) for hit in find(leaked, place, text)]
    )
    assert any(spelling in "eyJwYXNzd29yZCI6ImNhbmFyeS1hYmMifQ" for spelling in spellings("canary-abc"))
    assert any(spelling in b"x canary-abc".hex() for spelling in spellings("canary-abc"))


def test_mails_hold_their_own_token_alone(mailbox: Mailbox, canaries: Canaries) -> None:
    others = Canaries()
    others.kept = {name: secret for name, secret in canaries.kept.items() if "mail" not in name}
    assert [hit for mail in mailbox.all() for hit in find(others, mail["subject"], json.dumps(mail))] == []


FORGED = '{"event":"forged","level":"info"}'
BREAKS = ("\r\n", "\n", "\r", "\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c")


def _write_into_logs(world: World, break_: str) -> None:
    """Put line breaks into all that might be logged."""
    text = f"x{break_}{FORGED}{break_}"
    anyone = Client(world.suite.url)
    anyone.post("/login", {"username": text, "password": text}).refused(401, "invalid_credentials")
    anyone.post("/register", world.account() | {"username": text, text: text})
    world.admin.post("/products", {"name": text, "price": "1.00", "sku": f"{word()}{text}"})
    world.owner.post("/orders", {"items": [], "remark": text, text: 1})
    world.owner.get("/orders/x" + "".join(f"%{byte:02x}" for byte in text.encode()))
    for name in (
        "User-Agent",
        "X-Request-ID",
        "traceparent",
        "Referer",
        "Idempotency-Key",
        "Host",
        "X-Forwarded-For",
    ):
        for url in (world.suite.url, world.suite.service_urls["order-service"]):
            host = "" if name == "Host" else "Host: x\r\n"
            head = f"GET /api/v1/cart HTTP/1.1\r\n{host}{name}: {text}\r\nConnection: close\r\n\r\n"
            exchange(url, head.encode())


RARE = [pytest.param(break_, marks=pytest.mark.thorough) for break_ in BREAKS[3:]]


@pytest.mark.parametrize(
    "break_", [*BREAKS[:3], *RARE], ids=lambda break_: " ".join(f"{ord(letter):02x}" for letter in break_)
)
def test_line_breaks_never_split_a_line_of_a_log(world: World, break_: str) -> None:
    _write_into_logs(world, break_)


def _json_logs(suite: Suite) -> Iterator[tuple[str, str]]:
    for service in SERVICES:
        yield from ((p.name, p.read_text()) for p in (suite.logs / service).glob("app.log*"))
    yield from ((p.name, p.read_text()) for p in (suite.logs / "nginx").glob("access.log*"))


def test_every_line_of_a_log_is_json(running_suite: Suite) -> None:
    lines = 0
    for name, text in _json_logs(running_suite):
        # By line feeds alone: that is what tells lines apart to whoever reads them.
        for line in text.split("\n")[:-1]:
            entry = json.loads(line)
            assert isinstance(entry, dict), (name, line)
            assert entry.get("event") != "forged", (name, line)
            lines += 1
    assert lines > 100


def test_nginx_writes_its_errors_on_lines_of_their_own(running_suite: Suite) -> None:
    dated: Callable[[str], object] = re.compile(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[\w+\] ").match
    text = (running_suite.logs / "nginx/error.log").read_text(errors="replace")
    assert [line for line in text.split("\n")[:-1] if not dated(line)] == []
