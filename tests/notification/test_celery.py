"""The worker and Celery as real processes, each as its own user of a real broker."""

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pika
import pytest
from pydantic import SecretStr

from chassis.broker import Link, Message, Publisher
from chassis.errors import DependencyAway
from notification_service import task_queue
from notification_service.models import db
from notification_service.services import Sweep
from notification_service.task_queue import QUEUE, TASK, TaskQueue
from tests.chassis.messaging.sample import Proxy
from tests.contracts.event_schemas import examples

HERE = Path(__file__).parents[2] / "notification-service"
CHASSIS = HERE.parent / "chassis"
CELERY = ("celery", "-A", "notification_service.celery_app", "worker", "--concurrency", "2")
WORKER = ("flask", "worker")


@pytest.fixture
def settings(settings, rabbitmq_server):
    return settings.model_copy(
        update={
            "amqp_host": rabbitmq_server.host,
            "amqp_port": rabbitmq_server.port,
            "amqp_user": "notification_service",
            "amqp_password": SecretStr(rabbitmq_server.service_password),
            "claim_seconds": 3.0,
            "dispatch_seconds": 3.0,
        }
    )


@pytest.fixture
def broker_admin(settings, rabbitmq_server):
    """Return settings with which the test itself may do everything; the queues are empty."""
    admin = settings.model_copy(
        update={"amqp_user": rabbitmq_server.user, "amqp_password": SecretStr(rabbitmq_server.password)}
    )
    login = base64.b64encode(f"{rabbitmq_server.user}:{rabbitmq_server.password}".encode()).decode()
    for queue in (QUEUE, "user.events", "order.events", "product.events"):
        url = f"{rabbitmq_server.management_url}/api/queues/%2F/{queue}/contents"
        request = urllib.request.Request(url, method="DELETE", headers={"Authorization": f"Basic {login}"})
        urllib.request.urlopen(request, timeout=10).close()
    return admin


class Process:
    """A process of the service."""

    def __init__(self, command, settings, log: Path, **changes):
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [Path(sys.executable).parent / command[0], *command[1:]],
                cwd=HERE,
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": str(CHASSIS),
                    **environment(settings),
                    **changes,
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, seconds: float) -> int:
        return self._process.wait(seconds)

    def runs(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        self._process.kill()
        self._process.wait(10)

    def lines(self) -> list[dict]:
        """Return what it has logged as JSON."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


def environment(settings) -> dict[str, str]:
    """Write settings as the environment that they are read from."""
    values = {name: getattr(settings, name) for name in type(settings).model_fields}
    plain = {n: v.get_secret_value() if isinstance(v, SecretStr) else v for n, v in values.items()}
    return {name.upper(): str(value) for name, value in plain.items() if value is not None}


@pytest.fixture
def start(settings, tmp_path):
    """Return what starts a process that ends with the test."""
    with ExitStack() as processes:

        def start(command, **changes) -> Process:
            process = Process(command, settings, tmp_path / f"{command[0]}.log", **changes)
            processes.callback(process.end)
            return process

        yield start


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait until something is so."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.05)


def publish(admin, event_type: str, **changes) -> dict:
    """Put an event into the queues."""
    event = {**examples(event_type)[0], "id": str(uuid4()), **changes}
    with closing(Publisher(admin, "test")) as publisher:
        publisher.publish(routing_key=event_type, message_id=event["id"], body=orjson.dumps(event))
        assert publisher.pump(5)[0].error is None
    return event


def purge(admin, queue: str) -> None:
    with closing(Link(admin, "test")) as link:
        link.ask("purge", lambda done: link.channel.queue_purge(queue, callback=done))


def count(admin, queue: str) -> int:
    with closing(Link(admin, "count")) as link:
        return link.count(queue)


@pytest.fixture
def queue_mail(client, admin):
    """Return what queues a mail by hand."""

    def queue_mail(to: str = "a@example.com") -> str:
        body = {"to": to, "subject": "s", "body": "b"}
        answer = client.post("/api/v1/notifications/email", json=body, headers=admin)
        return answer.get_json()["id"]

    return queue_mail


@pytest.fixture(autouse=True)
def _context(app):
    with app.app_context():
        yield


@pytest.fixture
def sweeping(app, settings):
    """Sweep beside the test, as the worker does."""
    stop, queue = threading.Event(), TaskQueue(settings)
    sweep = Sweep(queue, dispatch_seconds=3, claim_seconds=3)

    def work():
        while not stop.wait(0.2):
            with app.app_context():
                sweep(db.session)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join(20)
    queue.close()


def events(process: Process) -> list[str]:
    return [line["event"] for line in process.lines()]


def test_an_event_becomes_one_mail_however_often_it_is_delivered(start, broker_admin, sink, box, tmp_path):
    celery, worker = start(CELERY), start(WORKER)
    event = publish(broker_admin, "user.registered", requestid="request-7")
    publish(broker_admin, "user.registered", id=event["id"])
    wait_for(lambda: sink.of("xiaoming@example.com"))
    wait_for(lambda: box.rows(status="sent"))
    wait_for(lambda: "event known already" in events(worker))
    wait_for(lambda: "notification sent" in events(celery))
    (row,) = box.rows()
    assert str(row.event_id) == event["id"]
    assert len(sink.mails) == 1
    (sent,) = [line for line in celery.lines() if line["event"] == "notification sent"]
    assert sent["request_id"] == "request-7"
    assert sent["traceparent"].split("-")[1] == event["traceparent"].split("-")[1]
    assert (sent["service"], sent["process"]) == ("notification-service", "celery")
    assert "notification sent" in (tmp_path / "app.log").read_text()
    assert count(broker_admin, f"{QUEUE}.dead") == count(broker_admin, "user.events.dead") == 0


def test_a_broker_that_comes_late_or_goes_away_is_waited_for(start, broker_admin, settings, sink, queue_mail):
    proxy = Proxy(settings.amqp_host, settings.amqp_port)
    proxy.cut(refuse=True)
    try:
        processes = [start(command, AMQP_PORT=str(proxy.port)) for command in (CELERY, WORKER)]
        queue_mail("first@example.com")
        wait_for(lambda: "notifications not dispatched" in events(processes[1]))
        proxy.open()
        wait_for(lambda: sink.of("first@example.com"))
        proxy.cut(refuse=True)
        queue_mail("second@example.com")
        wait_for(lambda: events(processes[1]).count("notifications not dispatched") > 3)
        proxy.open()
        wait_for(lambda: sink.of("second@example.com"))
        assert all(process.runs() for process in processes)
        assert len(sink.mails) == 2
    finally:
        proxy.cut(refuse=True)


@pytest.mark.usefixtures("sweeping")
class TestCelery:
    def test_ends_a_running_task_before_itself(self, start, broker_admin, sink, box, queue_mail):
        sink.seconds_before = 3
        celery = start(CELERY, CLAIM_SECONDS="60")
        queue_mail()
        wait_for(lambda: box.rows(status="sending"))
        celery.send(signal.SIGTERM)
        assert celery.wait(20) == 0
        assert len(sink.mails) == 1
        assert [row.status for row in box.rows()] == ["sent"]

    def test_that_was_killed_has_its_mail_sent_again_under_the_same_name(
        self, start, broker_admin, sink, box, queue_mail
    ):
        sink.seconds_after = 2
        celery = start(CELERY)
        notification_id = queue_mail()
        wait_for(lambda: sink.mails)
        celery.send(signal.SIGKILL)
        celery.wait(5)
        sink.seconds_after = 0
        start(CELERY)
        wait_for(lambda: box.rows(status="sent"))
        assert [m.message["Message-ID"] for m in sink.mails] == [f"<{notification_id}@example.com>"] * 2

    def test_waits_for_a_login_and_a_mail_server_that_are_not_there_yet(
        self, start, broker_admin, rabbitmq_server, sink, box, queue_mail
    ):
        control = rabbitmq_server.broker._control
        control("change_password", "notification_service", "another")
        try:
            celery = start(CELERY)
            wait_for(lambda: "broker away" in events(celery))
        finally:
            control("change_password", "notification_service", rabbitmq_server.service_password)
        sink.stop()
        try:
            queue_mail()
            wait_for(lambda: box.rows(status="queued") and box.rows()[0].attempts)
        finally:
            sink.start()
        wait_for(lambda: box.rows(status="sent"))
        assert len(sink.mails) == 1
        assert celery.runs()


# Celery in which a task hangs after five seconds.
IMPATIENT_CELERY = (
    "python",
    "-c",
    "import sys\n"
    "from celery.__main__ import main\n"
    "from notification_service import celery_worker\n"
    "celery_worker.SIGN_SECONDS, celery_worker.HANG_SIGNS = 0.2, 25\n"
    f"sys.argv = {list(CELERY)}\n"
    "main()\n",
)


@pytest.mark.usefixtures("sweeping")
def test_a_task_that_hangs_ends_the_process(start, broker_admin, sink, box, queue_mail):
    celery = start(IMPATIENT_CELERY, CLAIM_SECONDS="60")
    queue_mail()
    wait_for(lambda: box.rows(status="sent"))
    time.sleep(3)
    sink.seconds_after = 25
    queue_mail()
    wait_for(lambda: len(sink.mails) == 2)
    begun = time.monotonic()
    assert celery.wait(30) == 1
    # Counted from the first task, which has ended, it would be two seconds.
    assert time.monotonic() - begun > 3
    assert "task hangs, ending the process" in events(celery)


JSON = "application/json"
TASK_BODY = orjson.dumps([[str(uuid4())], {}, {}])
# Each names a notification, and would be lost or end what is to run it by what it asks for besides.
STRANGE_BODIES = [
    orjson.dumps([[str(uuid4())], kwargs, embed])
    for kwargs, embed in [
        ({"x": 1}, {}),
        ([], {}),
        ({}, 5),
        ({}, "args"),
        ({}, {"chain": 5}),
        ({}, {"id": None}),
    ]
]
STRANGE_HEADERS: list[dict[str, Any]] = [
    {"expires": [None, None]},
    {"shadow": ["x"]},
    {"stamped_headers": 5},
    {"headers": "x"},
    {"request_id": 5},
    {"traceparent": {"a": 1}},
]
POISON: list[dict[str, Any]] = [
    {"body": b""},
    {"body": b"{no json", "content_type": JSON},
    {"body": b"5", "content_type": JSON},
    {"body": b"hello", "content_type": "text/plain"},
    {"body": b"\x80\x04", "content_type": "application/x-python-serialize"},
    {"body": b'{"task": "notification.send"}', "content_type": JSON},
    {"body": b"[[], {}, {}]", "headers": {"task": "another", "id": "1"}},
    {"body": b"[[], {}, {}]", "headers": {"task": "another"}},
    {"body": b"[[], {}, {}]", "headers": {"task": ["x"], "id": "2"}},
    {"body": TASK_BODY, "headers": {"task": TASK}},
    {"body": TASK_BODY, "headers": {"task": TASK, "id": "3", "eta": "2099-01-01T00:00:00Z"}},
    {"body": TASK_BODY, "headers": {"task": TASK, "id": "4", "timelimit": 5}},
    {"body": b"{no json", "headers": {"task": TASK, "id": "5"}},
    {"body": TASK_BODY, "headers": {"task": TASK, "id": "11", "compression": "none that there is"}},
    {"body": b"null", "headers": {"task": TASK, "id": "6"}},
    {"body": b"5", "headers": {"task": TASK, "id": "7"}},
    {"body": b"[]", "headers": {"task": TASK, "id": "8"}},
    {"body": b"[[], {}, {}]", "headers": {"task": TASK, "id": "9"}},
    {"body": b'[["x"], {}, {}]', "headers": {"task": TASK, "id": "10"}},
    *({"body": body, "headers": {"task": TASK, "id": "12"}} for body in STRANGE_BODIES),
    *({"body": TASK_BODY, "headers": {"task": TASK, "id": "13", **more}} for more in STRANGE_HEADERS),
]


def plant(admin, *, body: bytes, content_type: str = "", headers: dict | None = None) -> None:
    """Put a message into Celery's queue as it is."""
    content_type = JSON if headers else content_type
    properties = pika.BasicProperties(content_type=content_type or None, headers=headers, delivery_mode=2)
    with closing(Link(admin, "test")) as link:
        link.channel.basic_publish("", QUEUE, body, properties)
        link.pump(0.2)


@pytest.mark.usefixtures("sweeping")
def test_what_is_no_task_is_set_aside_and_holds_up_nothing(start, broker_admin, sink, queue_mail):
    celery = start(CELERY)
    try:
        for message in POISON:
            plant(broker_admin, **message)
        # One of a notification that is gone is a task like any other.
        plant(broker_admin, body=TASK_BODY, headers={"task": TASK, "id": "0"})
        queue_mail()
        wait_for(lambda: count(broker_admin, f"{QUEUE}.dead") == len(POISON))
        wait_for(lambda: sink.mails)
        assert celery.runs()
        assert events(celery).count("message set aside") == len(POISON)
    finally:
        purge(broker_admin, f"{QUEUE}.dead")


class TestTaskQueue:
    def test_sends_nothing_but_an_id(self, broker_admin, settings):
        queue, notification_id = TaskQueue(settings), uuid4()
        queue.send(notification_id, "request-7", "")
        queue.close()
        messages: list[Message] = []
        with closing(Link(broker_admin, "look")) as link:
            link.consume(QUEUE, 10, messages.append)
            link.pump(5, lambda: bool(messages))
            link.ack(messages[0])
        args, kwargs, _ = json.loads(messages[0].body)
        assert (args, kwargs) == ([str(notification_id)], {})
        assert messages[0].headers["request_id"] == "request-7"

    def test_counts_the_tasks_that_wait(self, broker_admin, settings):
        queue = TaskQueue(settings)
        try:
            assert queue.count() == 0
            for _ in range(3):
                queue.send(uuid4(), "", "")
            assert queue.count() == 3
        finally:
            queue.close()

    def test_says_that_the_broker_is_away(self, settings):
        queue = TaskQueue(settings.model_copy(update={"amqp_port": 1}))
        with pytest.raises(DependencyAway):
            queue.send(uuid4(), "", "")
        with pytest.raises(DependencyAway):
            queue.count()

    def test_connects_anew_when_its_connection_has_died(self, settings, broker_admin):
        proxy = Proxy(settings.amqp_host, settings.amqp_port)
        queue = TaskQueue(settings.model_copy(update={"amqp_port": proxy.port}))
        try:
            queue.send(uuid4(), "", "")
            proxy.cut(refuse=False)
            queue.send(uuid4(), "", "")
            wait_for(lambda: count(broker_admin, QUEUE) == 2)
        finally:
            queue.close()
            proxy.cut(refuse=True)

    def test_is_not_held_up_by_a_broker_that_falls_silent(self, settings, broker_admin, monkeypatch):
        monkeypatch.setattr(task_queue, "ANSWER_SECONDS", 0.5)
        proxy = Proxy(settings.amqp_host, settings.amqp_port)
        queue = TaskQueue(settings.model_copy(update={"amqp_port": proxy.port}))
        try:
            queue.send(uuid4(), "", "")
            proxy.pause()
            started = time.monotonic()
            with pytest.raises(DependencyAway):
                queue.send(uuid4(), "", "")
            assert time.monotonic() - started < 10
            proxy.resume()
            queue.send(uuid4(), "", "")
        finally:
            queue.close()
            proxy.resume()
            proxy.cut(refuse=True)


def test_health_follows_the_signs_of_life(start, broker_admin, tmp_path):
    def health() -> int:
        command = [sys.executable, "notification_service/celery_health.py"]
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(CHASSIS), "TMPDIR": str(tmp_path)}
        return subprocess.run(command, cwd=HERE, env=env, capture_output=True, timeout=20).returncode

    assert health() == 1
    start(CELERY, TMPDIR=str(tmp_path))
    wait_for(lambda: health() == 0)
