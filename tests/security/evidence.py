"""Everything that the running suite has written down, to look for what should not be there."""

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from urllib.parse import quote

import urllib3

from tests.e2e.client import POOL
from tests.e2e.suite import REPOSITORY, Suite
from tests.security.insides import DATABASES, connect, open_redis

MOST_MESSAGES = 5000
READERS = {
    "hash": "hgetall",
    "zset": "zrange",
    "list": "lrange",
    "set": "smembers",
    "string": "get",
    "stream": "xrange",
}


def spellings(secret: str) -> set[str]:
    """Write a secret as it might be found: plain, quoted, in hex, and inside something in base64."""
    raw = secret.encode()
    found = {
        secret,
        quote(secret, safe=""),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
    }
    found |= {raw.hex(), repr(secret)[1:-1]}
    for shift in range(3):
        whole = base64.b64encode(bytes(shift) + raw).decode()
        # What shares a letter with its neighbours is cut off at both ends.
        inner = whole[4 if shift else 0 : len(whole) - 4]
        found |= {inner, inner.replace("+", "-").replace("/", "_")}
    return {text for text in found if len(text) >= 6}


def logs(suite: Suite) -> Iterator[tuple[str, str]]:
    """Yield every log file; under Docker also what the containers printed."""
    for path in sorted(suite.logs.rglob("*.log*")):
        yield f"logs/{path.relative_to(suite.logs)}", path.read_text(errors="replace")
    if "SHOP_URL" in os.environ:
        command = ["docker", "compose", "logs", "--no-color", "--no-log-prefix"]
        done = subprocess.run(
            command, cwd=REPOSITORY, capture_output=True, text=True, errors="replace", timeout=120, check=True
        )
        yield "docker compose logs", done.stdout


def rows(suite: Suite) -> Iterator[tuple[str, str]]:
    """Yield every row of every table of the four databases; bytes appear in hex."""
    tables = "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = 'public'"
    for service, database in DATABASES.items():
        connection = connect(suite, service)
        try:
            with connection.cursor() as cursor:
                cursor.execute(tables)
                for (table,) in cursor.fetchall():
                    cursor.execute(f"SELECT t::text FROM {table} t")
                    yield f"{database} {table}", "\n".join(row for (row,) in cursor.fetchall())
        finally:
            connection.close()


def keys(suite: Suite) -> Iterator[tuple[str, str]]:
    """Yield every key of Redis with what it holds."""
    with open_redis(suite) as client:
        for key in client.scan_iter(count=1000):
            kind = client.type(key).decode()
            ends = {"zset": (0, -1), "list": (0, -1)}.get(kind, ())
            value = getattr(client, READERS[kind])(key, *ends) if kind in READERS else kind
            yield f"redis {key.decode(errors='replace')}", f"{key!r} {value!r}"


class Broker:
    """RabbitMQ's management interface."""

    def __init__(self, suite: Suite) -> None:
        login = f"{suite.env['RABBITMQ_DEFAULT_USER']}:{suite.env['RABBITMQ_DEFAULT_PASS']}"
        self.url = f"{suite.rabbitmq_url}/api"
        self.headers = urllib3.make_headers(basic_auth=login)
        # It closes connections that were left alone for a moment.
        self.headers |= {"Content-Type": "application/json", "Connection": "close"}

    def ask(self, method: str, path: str, body: object = None) -> urllib3.BaseHTTPResponse:
        """Send one request."""
        raw = json.dumps(body if body is not None else {}).encode()
        answer = POOL.request(method, self.url + path, body=raw, headers=self.headers)
        # What a restart has swept away need not be deleted.
        gone = method == "DELETE" and answer.status == 404
        assert answer.status < 300 or gone, (path, answer.status, answer.data)
        return answer

    def tap(self, queue: str) -> None:
        """Have every event copied to a queue that lasts as long as the broker runs."""
        self.ask(
            "PUT", f"/queues/%2F/{queue}", {"durable": False, "arguments": {"x-max-length": MOST_MESSAGES}}
        )
        self.ask("POST", f"/bindings/%2F/e/ecommerce.events/q/{queue}", {"routing_key": "#"})

    def drop(self, queue: str) -> None:
        """Delete a queue."""
        self.ask("DELETE", f"/queues/%2F/{queue}")

    def messages(self) -> Iterator[tuple[str, str]]:
        """Yield what lies in each queue, left where it is."""
        wanted = {"count": MOST_MESSAGES, "ackmode": "ack_requeue_true", "encoding": "auto"}
        for queue in self.ask("GET", "/queues/%2F").json():
            name = queue["name"]
            if queue.get("messages_ready", 1):
                answer = self.ask("POST", f"/queues/%2F/{quote(name, safe='')}/get", wanted)
                yield f"queue {name}", answer.data.decode()


def everything(suite: Suite) -> Iterator[tuple[str, str]]:
    """Yield each place where the suite writes, and what stands there."""
    yield from logs(suite)
    yield from rows(suite)
    yield from keys(suite)
    yield from Broker(suite).messages()
    for service, url in suite.service_urls.items():
        yield f"metrics of {service}", POOL.request("GET", f"{url}/metrics").data.decode()
