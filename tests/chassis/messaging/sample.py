"""A small service for tests: things that are renamed by events; and a TCP proxy to cut it off with."""

import contextlib
import os
import socket
import threading
from typing import Any, ClassVar

from flask import Flask
from sqlalchemy import BigInteger, Text, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from chassis import worker
from chassis.config import ServiceSettings
from chassis.db import Base, init_db, make_db, transaction
from chassis.errors import DependencyAway
from chassis.events import Envelope, NewEvent, record
from chassis.inbox import Consumer
from chassis.worker import Job, WorkerPlan, register_commands

QUEUE = "product-service.order.events"

db = make_db()


class Settings(ServiceSettings):
    # The broker knows this service: it may publish, and read one queue of `order.#`.
    service: ClassVar[str] = "product-service"


class Thing(db.Model):
    """Something with a row to lock."""

    __tablename__ = "things"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(Text, default="")


class Effect(db.Model):
    """One row for every time that an event's effect was made."""

    __tablename__ = "effects"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    event_id: Mapped[str] = mapped_column(Text)
    sequence: Mapped[int] = mapped_column(BigInteger)


def make_effect(session: Session, event: Envelope) -> None:
    """Note the event, or fail as its data demand."""
    session.add(Effect(event_id=str(event.id), sequence=event.sequence))
    match event.data.get("fail"):
        case "poison":
            raise ValueError("a bad message")
        case "peer":
            raise DependencyAway("peer")
        case "slow":
            session.flush()  # The test sees by the locked row that the handler has begun.
            threading.Event().wait(2)


def make_app(settings: Settings, plan: WorkerPlan | None = None) -> Flask:
    """Build the app with its tables made."""
    app = Flask(__name__)
    app.config["SETTINGS"] = settings
    init_db(app, db, settings)
    app.extensions["worker"] = plan or WorkerPlan(consumers=[Consumer(QUEUE, {"order.paid": make_effect})])
    register_commands(app)
    return app


def make_tables(app: Flask) -> None:
    """Make all tables, which stand for the migrations."""
    with app.app_context():
        db.create_all()
        Base.metadata.create_all(db.engine)


def hang(_session: Any) -> None:
    """Be the job that never returns."""
    threading.Event().wait()


def create_app() -> Flask:
    """Build the app of a worker's own process, as `flask` does."""
    jobs = []
    if os.environ.get("HANG"):
        jobs.append(Job("hang", 1, hang))
        worker.STALE_SECONDS = 8  # The others give signs of life every 5 s.
    return make_app(Settings(), WorkerPlan([Consumer(QUEUE, {"order.paid": make_effect})], jobs))


def rename(session: Session, thing_id: int, *names: str, event_type: str = "order.paid", **data: Any) -> None:
    """Be a use-case: change a thing and record one event for every name."""
    with transaction(session) as here:
        thing = here.get(Thing, thing_id, with_for_update=True) or Thing(id=thing_id)
        thing.name = names[-1]
        here.add(thing)
        record(here, *(NewEvent(event_type, f"thing-{thing_id}", {"name": n, **data}) for n in names))


def effects(session: Session) -> list[tuple[str, int]]:
    """Return every effect made, oldest first."""
    session.rollback()
    found = list(session.execute(select(Effect.event_id, Effect.sequence).order_by(Effect.id)))
    session.rollback()  # A transaction left open would be ended by the server.
    return found


class Proxy:
    """Passes TCP connections on until it is told to cut them and to refuse further ones."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self._sockets: list[socket.socket] = []
        self._flows = threading.Event()
        self._flows.set()
        self._listener: socket.socket | None = None
        self.host, self.port = "127.0.0.1", 0
        # How many pieces it was given while it was paused.
        self.holds = 0
        self.open()

    def open(self) -> None:
        """Take connections, on the same port as before."""
        self._listener = socket.create_server((self.host, self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self, *, refuse: bool) -> None:
        """Cut all connections, and `refuse` new ones until `open`."""
        if refuse and self._listener:
            # A blocked accept holds the port; the shutdown wakes it.
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for end in self._sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._sockets.clear()

    def pause(self) -> None:
        """Take connections and bytes and pass on nothing, as a paused server does."""
        self._flows.clear()

    def resume(self) -> None:
        """Pass on what waits."""
        self._flows.set()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(self.target)
                self._sockets += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.holds += not self._flows.is_set()
                self._flows.wait()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)
