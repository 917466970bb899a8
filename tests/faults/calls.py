"""Calls to the shop, each recorded as ok, failed or unknown; nothing recorded is ever changed or dropped."""

import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import uuid4

import urllib3

CONNECTIONS = 16
PATIENCE = urllib3.Timeout(connect=2, read=8)
# Younger than this a session is not renewed; access tokens live for 15 min.
RENEW_SECONDS = 600.0
CHECKOUTS = frozenset({"order", "pay"})

Outcome = Literal["ok", "failed", "unknown"]


@dataclass(frozen=True, slots=True)
class Try:
    """One time that a call was sent: `unknown` is whatever leaves open what the shop has done."""

    started: float
    ended: float
    outcome: Outcome
    status: int = 0
    code: str = ""


@dataclass(slots=True)
class Call:
    """A call and all its tries; each try has the same key and the same body."""

    number: int
    kind: str
    method: str
    path: str
    user_id: int
    body: Any
    key: str
    # Whether sending it again can do no harm, so that an unknown one can be settled.
    repeatable: bool
    # What the judges have to know of it: the order's id, the pieces that are booked.
    facts: Mapping[str, Any] = field(default_factory=dict)
    tries: list[Try] = field(default_factory=list)
    answer: Any = None

    @property
    def outcome(self) -> Outcome:
        """The outcome of the last try."""
        return self.tries[-1].outcome if self.tries else "unknown"

    @property
    def status(self) -> int:
        """The status of the last try."""
        return self.tries[-1].status if self.tries else 0

    @property
    def code(self) -> str:
        """The code of the last refusal."""
        return self.tries[-1].code if self.tries else ""

    @property
    def was_unknown(self) -> bool:
        """Tell whether any of its tries may have done something that was not answered."""
        return any(one.outcome == "unknown" for one in self.tries)

    @property
    def name(self) -> str:
        """How a finding names it."""
        return f"{self.kind} {self.key or self.number}"


@dataclass
class Person:
    """Somebody who is signed in, or was."""

    user_id: int
    username: str
    email: str
    password: str
    token: str = ""
    signed_in_at: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)


@dataclass(eq=False)
class Record:
    """All that the load knows: what it asked, what it was answered, whom and what it made."""

    calls: list[Call] = field(default_factory=list)
    people: dict[int, Person] = field(default_factory=dict)
    # Product id to price, and to the pieces it was made with.
    prices: dict[int, str] = field(default_factory=dict)
    initial: dict[int, int] = field(default_factory=dict)
    # The planted messages' ids, and how many of them each queue got.
    poison: set[str] = field(default_factory=set)
    poison_in: dict[str, int] = field(default_factory=dict)
    stock_polls: int = 0
    negative_stock: list[str] = field(default_factory=list)
    # What ended the look at the stock though the database was there.
    poll_failures: list[str] = field(default_factory=list)

    def of(self, *kinds: str) -> list[Call]:
        """List the calls of these kinds."""
        return [call for call in list(self.calls) if call.kind in kinds]

    def counts(self, since: float = 0.0) -> Counter[str]:
        """Count the tries that started since then by outcome."""
        return Counter(one.outcome for call in list(self.calls) for one in call.tries if one.started >= since)

    def in_flight_at(self, at: float) -> int:
        """Count the checkouts that were on their way at that moment."""
        calls = (call for call in list(self.calls) if call.kind in CHECKOUTS)
        return sum(1 for call in calls for one in call.tries if one.started <= at < one.ended)

    def broken(self) -> list[str]:
        """List the calls that were answered with 500, which no fault excuses."""
        tries = ((call, one) for call in list(self.calls) for one in call.tries)
        return [
            f"{call.name}: {call.method} {call.path} answered 500" for call, one in tries if one.status == 500
        ]

    def write(self, path: str) -> None:
        """Write everything down, a line per call, for whoever looks into a finding."""
        with open(path, "w") as file:
            for call in list(self.calls):
                tries = [[t.started, t.ended, t.outcome, t.status, t.code] for t in call.tries]
                facts = {"kind": call.kind, "request": f"{call.method} {call.path}", "key": call.key}
                facts |= {"user_id": call.user_id, "body": call.body, "tries": tries}  # type: ignore[dict-item]
                file.write(json.dumps(facts, default=str) + "\n")


class Shop:
    """The shop as the load sees it: at most so many connections, and every call on the record."""

    def __init__(self, url: str, record: Record) -> None:
        self.record = record
        self._url = f"{url.rstrip('/')}/api/v1"
        self._pool = urllib3.PoolManager(
            maxsize=CONNECTIONS, block=True, retries=False, timeout=PATIENCE, cert_reqs="CERT_NONE"
        )
        self._numbers = itertools.count(1)
        self._flying: Counter[str] = Counter()
        self._lock = threading.Lock()

    def in_flight(self) -> int:
        """Count the checkouts that wait for their answer now."""
        with self._lock:
            return sum(self._flying[kind] for kind in CHECKOUTS)

    def call(
        self,
        kind: str,
        method: str,
        path: str,
        person: Person | None = None,
        body: Any = None,
        *,
        keyed: bool = False,
        key: str = "",
        repeatable: bool = True,
        facts: Mapping[str, Any] | None = None,
    ) -> Call:
        """Send a call for the first time; `keyed` ones carry an Idempotency-Key."""
        key = key or (str(uuid4()) if keyed else "")
        user_id = person.user_id if person else 0
        call = Call(
            next(self._numbers), kind, method, path, user_id, body, key, repeatable, dict(facts or {})
        )
        self.record.calls.append(call)
        self.send(call, person)
        return call

    def send(self, call: Call, person: Person | None) -> None:
        """Send a call (again), with the same key and the same body; a session that is over is renewed."""
        if person is not None:
            self.keep_signed_in(person)
        done, answer = self._try(call, person)
        if done.status == 401 and person is not None and call.kind != "login":
            # Nothing was done, and the key is still free.
            call.tries.append(Try(done.started, done.ended, "unknown", done.status, done.code))
            person.signed_in_at = 0.0
            self.keep_signed_in(person)
            done, answer = self._try(call, person)
            if done.status == 401:
                done = Try(done.started, done.ended, "unknown", done.status, done.code)
        if done.outcome == "ok":
            call.answer = answer
        call.tries.append(done)

    def settle(self, call: Call, ends: float) -> None:
        """Send an unknown call again until its answer is definite, or until the time is up."""
        person = self.record.people.get(call.user_id)
        pause = 0.1
        while call.outcome == "unknown" and time.time() < ends:
            self.send(call, person)
            if call.outcome == "unknown":
                time.sleep(pause)
                pause = min(1.0, pause * 2)

    def sign_in(self, person: Person) -> bool:
        """Sign somebody in; False when the shop can't just now."""
        body = {"username": person.username, "password": person.password}
        call = self.call("login", "POST", "/login", None, body)
        if call.outcome != "ok":
            return False
        person.token, person.signed_in_at = call.answer["access_token"], time.time()
        person.user_id = call.answer["user"]["id"]
        return True

    def keep_signed_in(self, person: Person) -> None:
        """Renew a session well before its token ends; while that is refused the old one goes on."""
        with person.lock:
            if time.time() - person.signed_in_at > RENEW_SECONDS:
                self.sign_in(person)

    def _try(self, call: Call, person: Person | None) -> tuple[Try, Any]:
        headers = {"X-Request-ID": f"lab-{call.number}-{len(call.tries)}"}
        if person is not None and person.token:
            headers["Authorization"] = f"Bearer {person.token}"
        if call.key:
            headers["Idempotency-Key"] = call.key
        data = None
        if call.body is not None:
            data = json.dumps(call.body).encode()
            headers["Content-Type"] = "application/json"
        with self._lock:
            self._flying[call.kind] += 1
        started = time.time()
        try:
            reply = self._pool.request(call.method, self._url + call.path, body=data, headers=headers)
        except urllib3.exceptions.HTTPError as error:
            return Try(started, time.time(), "unknown", 0, type(error).__name__), None
        finally:
            with self._lock:
                self._flying[call.kind] -= 1
        return judge(started, time.time(), reply.status, reply.data)


def judge(started: float, ended: float, status: int, raw: bytes) -> tuple[Try, Any]:
    """Say what an answer tells of the call, and return its body."""
    body: Any = None
    with suppress(ValueError):
        body = json.loads(raw) if raw else None
    code = str(body.get("code", "")) if isinstance(body, dict) else ""
    if 200 <= status < 300:
        # A good answer whose body broke off leaves open what it said.
        whole = body is not None or status == 204
        return Try(started, ended, "ok" if whole else "unknown", status, code), body
    open_still = status >= 500 or status in (408, 429) or code == "idempotency_in_progress"
    return Try(started, ended, "unknown" if open_still else "failed", status, code), body


def wait_until(holds: Callable[[], bool], seconds: float, every: float = 0.02) -> bool:
    """Wait until something holds; tell whether it does."""
    ends = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > ends:
            return False
        time.sleep(every)
    return True
