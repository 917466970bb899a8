"""Requests that nobody would send, made from the documents; the same at each run of the same seed."""

import copy
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tests.security.documents import Operation

# Texts in quotes of this kind become bare in the body: numbers that no JSON writer would write.
BARE = "@@"
TEXTS = [
    *("", " ", "\t", "\0", "a\0b", "\n", "\r\nX-Injected: 1", "a" * 300, "a" * 10_000, "é" * 255, "密" * 129),
    *(
        "'",
        '"',
        "\\",
        "`",
        "' OR '1'='1",
        "'; SELECT pg_sleep(3); --",
        "%",
        "%s%n%x",
        "{0}",
        "%(x)s",
        "$1",
        ":x",
    ),
    *(
        "{{7*7}}",
        "${7*7}",
        "#{7*7}",
        "${jndi:ldap://localhost/x}",
        "<script>alert(1)</script>",
        "<!--",
        "]]>",
    ),
    *(
        "../../../etc/passwd",
        "..\\..\\x",
        "/dev/null",
        "file:///etc/passwd",
        "http://127.0.0.1:5432/",
        "//x",
        ".",
    ),
    *(
        "true",
        "null",
        "undefined",
        "NaN",
        "-1",
        "0",
        "01",
        "1.0",
        "1e5",
        "0x10",
        "1_000",
        "٣",
        "９",
        "²",
        "½",
    ),
    *(
        "\u202e",
        "\u200b",
        "\ufeff",
        "\u2028",
        "\U0001f600",
        "\U0001f468\u200d\U0001f469",
        "e\u0301",
        "İ",
        "ﬃ",
    ),
    *("\ud800", "\udc00\ud800", "\uffff", "\ufdd0", "\x1b[31m", "\x7f", "\x80", "a@b", "@", "a@b.c\0"),
    *("2026-01-01T00:00:00Z", "2026-02-30T00:00:00Z", "0000-00-00T00:00:00Z", "9999-12-31T23:59:59+14:00"),
    *(
        "00000000-0000-0000-0000-000000000000",
        "019ab0c4-7f5e-7cc3-98c4-dc0c0c07398",
        "sandbox",
        "tok_decline",
    ),
]
NUMBERS = [
    *(
        0,
        -1,
        1,
        2,
        98,
        99,
        100,
        101,
        2**15,
        2**31 - 1,
        2**31,
        -(2**31) - 1,
        2**53,
        2**63 - 1,
        2**63,
        -(2**63) - 1,
    ),
    *(2**64, 10**18, 10**30, 10**400, 0.1, -0.0, 1.005, 1e16, 1e308, 5e-324),
    *(
        f"{BARE}{text}{BARE}"
        for text in ("1e400", "-1e400", "1E+1000000", "1e-1000000", "1" * 4301, "0.1e-0", "00")
    ),
    *(f"{BARE}{text}{BARE}" for text in ("NaN", "Infinity", "-Infinity", "+1", ".5", "1.", "0x1", "nul", "")),
]
OTHERS: list[Any] = [
    *(
        None,
        True,
        False,
        [],
        {},
        [[]],
        [{}],
        [None] * 200,
        {"": ""},
        {"a": {"a": {"a": {}}}},
        {"\0": 1},
        {"$ne": None},
    ),
    *({"__proto__": 1}, {"x" * 5000: 1}, [[[[[[[[1]]]]]]]], {str(n): n for n in range(200)}),
]
BODIES = [
    *(
        b"",
        b" ",
        b"null",
        b"true",
        b"0",
        b'""',
        b"[]",
        b"{}",
        b"[{}]",
        b"{",
        b"}",
        b'{"a"',
        b'{"a":',
        b"\xff",
        b"\0",
    ),
    *(
        b"\xef\xbb\xbf{}",
        b"{} {}",
        b"{'a': 1}",
        b"[" * 5000,
        b'{"a":' * 5000,
        b"a=1&b=2",
        b"<a/>",
        b"--x\r\n\r\n--x--",
    ),
]
HEADERS = [
    *(
        {"Content-Type": kind}
        for kind in ("", "text/plain", "application/json; charset=\xff", "*/*", "a/b/c;;=")
    ),
    *({"Content-Encoding": coding} for coding in ("gzip", "x")),
    *(
        {"Accept": "text/html"},
        {"Accept": ";;,,q=x"},
        {"Accept-Language": "\xff" * 50},
        {"Accept-Encoding": "x;q=9"},
    ),
    *(
        {"Range": "bytes=0-,-1,5-1"},
        {"If-None-Match": '"'},
        {"If-Match": 'W/"1.1", ,*'},
        {"If-Match": "\xff"},
    ),
    *({"Idempotency-Key": key} for key in ("a b", "x" * 256, "\xff", "' OR 1=1 --")),
    *(
        {"X-Request-ID": "\xff"},
        {"traceparent": "00-0-0-0"},
        {"traceparent": "\xff" * 99},
        {"tracestate": "a=" * 99},
    ),
    *(
        {"X-Forwarded-For": "', 1"},
        {"X-Forwarded-Proto": "x" * 99},
        {"Forwarded": "for=\xff"},
        {"Cookie": "=;=;\xff"},
    ),
    *(
        {"X-Signature": sign}
        for sign in ("t=,v1=", "t=9" + "9" * 30 + ",v1=0", "t=-1,v1=\xff", "v1", "t=1,t=2,v1=x")
    ),
    *(
        {"X-HTTP-Method-Override": "DELETE"},
        {"Expect": "x"},
        {"Host": "\xff"},
        {"Origin": "null"},
        {"Date": "x"},
    ),
]


@dataclass(frozen=True)
class Fuzzed:
    """One request, as it goes over the wire."""

    method: str
    target: str
    body: bytes | None
    headers: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.method} {self.target[:300]} {self.headers} {(self.body or b'')[:300]!r}"


class Fuzzer:
    """Makes requests of one operation; `ids` are path parameters that exist."""

    def __init__(self, operation: Operation, ids: Mapping[str, object], seed: object) -> None:
        self.operation, self.ids = operation, ids
        self.random = random.Random(f"{seed} {operation.name}")

    def requests(self, count: int) -> Iterator[Fuzzed]:
        """Yield so many requests."""
        for _ in range(count):
            headers = {"Content-Type": "application/json"} if self.operation.schema else {}
            if self.random.random() < 0.25:
                headers |= self.random.choice(HEADERS)
            yield Fuzzed(self.operation.method, self._target(), self._body(), headers)

    def _target(self) -> str:
        ids = {p["name"]: self.ids.get(p["name"], "x") for p in self.operation.parameters("path")}
        if ids and self.random.random() < 0.2:
            ids[self.random.choice(list(ids))] = quote(self._text() or "0", safe="", errors="surrogatepass")
        return self.operation.path.format(**ids) + self._query()

    def _query(self) -> str:
        names = [parameter["name"] for parameter in self.operation.parameters("query")]
        if not names and self.random.random() < 0.9:
            return ""
        chosen = self.random.choices([*names, "x", "limit", "cursor"], k=self.random.randint(0, 4))
        values = [(name, self._text() if self.random.random() < 0.8 else self._number()) for name in chosen]
        return "?" + "&".join(f"{name}={quote(str(v), errors='surrogatepass')}" for name, v in values)

    def _text(self) -> str:
        return self.random.choice(TEXTS)

    def _number(self) -> Any:
        return self.random.choice(NUMBERS)

    def _value(self) -> Any:
        others = [self._text(), self._number(), copy.deepcopy(self.random.choice(OTHERS))]
        return self.random.choice(others)

    def _body(self) -> bytes | None:
        schema = self.operation.schema
        if schema is None:
            return self.random.choice(BODIES) if self.random.random() < 0.1 else None
        if self.random.random() < 0.08:
            return self.random.choice(BODIES)
        body = dict(self.operation.example())
        for _ in range(self.random.randint(1, 3)):
            self._spoil(body, list(schema.get("properties", {})))
        return self._written(body)

    def _spoil(self, body: dict[str, Any], known: list[str]) -> None:
        """Change, add or drop one field, here or further in."""
        inner = [value for value in body.values() if isinstance(value, dict)]
        inner += [
            v for value in body.values() if isinstance(value, list) for v in value if isinstance(v, dict)
        ]
        if inner and self.random.random() < 0.4:
            self._spoil(deeper := self.random.choice(inner), list(deeper))
        elif body and self.random.random() < 0.15:
            body.pop(self.random.choice(list(body)))
        else:
            name = self.random.choice(known) if known and self.random.random() < 0.9 else self._text()
            body[name] = self._value()

    def _written(self, body: Any) -> bytes:
        raw = json.dumps(body).replace(f'"{BARE}', "").replace(f'{BARE}"', "").encode()
        if self.random.random() < 0.05:
            place = self.random.randrange(len(raw))
            return raw[:place] + self.random.choice((b"\xff", b"\0", b",", b"", b'"')) + raw[place + 1 :]
        return raw
