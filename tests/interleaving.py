"""Interleavings made on purpose: let something happen, or a process end, at one point of another's way.

`before` and `after` run a competing action around one call of a named function. A `Process` is what one
thread does, with all of its steps: a test walks them one by one, and at each lets the process die, lose an
answer, or sleep while others act.
"""

import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, TypeVar

import psycopg2
from sqlalchemy import Engine, event

T = TypeVar("T")
Function = Callable[..., Any]
BEFORE_COMMIT = "before a commit"
AFTER = ("after",)
EVERY = ("before", BEFORE_COMMIT, *AFTER)
NOTHING: Mapping[Function, Callable[[], BaseException]] = {}


class Died(BaseException):
    """The process is gone: nothing after this runs."""


def elsewhere(action: Callable[[], T]) -> T:
    """Run an action as another process would: in a thread, and so in a session, of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(action).result()


@contextmanager
def before(function: Function, action: Callable[[], Any]) -> Iterator[None]:
    """Run an action elsewhere before the next call of a function, wherever that is called from."""
    with _once_around(function, action, before_it=True):
        yield


@contextmanager
def after(function: Function, action: Callable[[], Any]) -> Iterator[None]:
    """Run an action elsewhere after the next call of a function, before its caller goes on."""
    with _once_around(function, action, before_it=False):
        yield


@contextmanager
def _once_around(function: Function, action: Callable[[], Any], *, before_it: bool) -> Iterator[None]:
    waiting = [action]

    @wraps(function)
    def interposed(*args: Any, **kw: Any) -> Any:
        # The action itself may well call the function.
        acting = waiting.pop() if waiting else None
        if acting and before_it:
            elsewhere(acting)
        answer = function(*args, **kw)
        if acting and not before_it:
            elsewhere(acting)
        return answer

    with replaced(function, interposed):
        yield
    assert not waiting, f"{function.__qualname__} was never called"


@contextmanager
def replaced(function: Function, by: Function) -> Iterator[None]:
    """Put a function in another's place: in its class, or in every module that knows it by its name."""
    holder, _, name = function.__qualname__.rpartition(".")
    if holder:
        places = [getattr(sys.modules[function.__module__], holder)]
    else:
        places = [module for module in list(sys.modules.values()) if vars(module).get(name) is function]
    for place in places:
        setattr(place, name, by)
    try:
        yield
    finally:
        for place in places:
            setattr(place, name, function)


class Process:
    """One thread, as a process that takes steps and stops at one of them.

    Its steps lie before and after each commit, and before and after each call to somebody else: what it does
    in between nobody else can see. `calls` are those functions, each with the error that says that its answer
    never came; what runs inside them belongs to the others. It stops at the step of a number, from 0, or of a
    name; `stopped_at` stays None when its way has no such step.
    """

    def __init__(
        self,
        engine: Engine,
        calls: Mapping[Function, Callable[[], BaseException]] = NOTHING,
        *,
        stop_at: int | str,
    ) -> None:
        self._engine, self._calls, self._stop_at = engine, calls, stop_at
        self._steps = 0
        self._kinds: Collection[str] = ()
        self.stopped_at: str | None = None
        self._thread = 0
        self._outside = self._dead = False

    def dies(self, act: Callable[[], Any]) -> None:
        """Take the steps until the one where it ends, as by `kill -9`.

        Only after something: before the next thing it would leave the same behind.
        """

        def die(_connection: Any, _error: Any) -> None:
            self._dead = True
            raise Died

        with self._stopping(die, AFTER):
            try:
                act()
            except Died:
                return

    def loses_an_answer(self, act: Callable[[], T]) -> T:
        """Take the steps; at the one, the connection breaks."""

        def lose(connection: Any, error: Callable[[], BaseException] | None) -> None:
            if error is not None:
                raise error()
            self._end_session(connection)

        with self._stopping(lose, EVERY):
            return act()

    def sleeps(self, act: Callable[[], T], while_it_sleeps: Callable[[], Any]) -> T:
        """Take the steps; at the one, sleep while something else happens, and wake up late.

        A transaction that is open then is ended by the server meanwhile: it waits for nobody longer than 5 s.
        Before a call nothing is different from what it was after the last step.
        """

        def sleep(connection: Any, _error: Any) -> None:
            if connection is not None:
                self._end_session(connection)
            elsewhere(while_it_sleeps)

        with self._stopping(sleep, (*AFTER, BEFORE_COMMIT)):
            return act()

    @contextmanager
    def _stopping(self, stop: Callable[[Any, Any], None], kinds: Collection[str]) -> Iterator[None]:
        self._thread, self._kinds = threading.get_ident(), kinds
        with ExitStack() as stack:
            stack.enter_context(self._watch_statements())
            stack.enter_context(self._watch_commits(stop))
            for function, error in self._calls.items():
                stack.enter_context(self._watch_calls(function, error, stop))
            yield

    def _is_me(self) -> bool:
        return threading.get_ident() == self._thread and not self._outside

    def _step(self, kind: str, name: str, stop: Callable[[], None]) -> None:
        full = f"{kind} {name}".strip()
        number = None
        if kind in self._kinds:
            number, self._steps = self._steps, self._steps + 1
        if self.stopped_at is None and self._stop_at in (number, full):
            self.stopped_at = full
            stop()

    @contextmanager
    def _watch_statements(self) -> Iterator[None]:
        """Nothing reaches the database any more once the process is dead."""

        def refuse(*_: Any) -> None:
            if self._dead and self._is_me():
                raise Died

        event.listen(self._engine, "before_cursor_execute", refuse)
        try:
            yield
        finally:
            event.remove(self._engine, "before_cursor_execute", refuse)

    @contextmanager
    def _watch_commits(self, stop: Callable[[Any, Any], None]) -> Iterator[None]:
        dialect: Any = self._engine.dialect
        commit = dialect.do_commit

        def lost() -> BaseException:
            return psycopg2.OperationalError("server closed the connection unexpectedly")

        def watched(connection: Any) -> None:
            if not self._is_me():
                commit(connection)
                return
            self._step(BEFORE_COMMIT, "", lambda: stop(connection, None))
            commit(connection)
            self._step("after", "a commit", lambda: stop(None, lost))

        dialect.do_commit = watched
        try:
            yield
        finally:
            del dialect.do_commit

    @contextmanager
    def _watch_calls(
        self, function: Function, error: Callable[[], BaseException], stop: Callable[[Any, Any], None]
    ) -> Iterator[None]:
        @wraps(function)
        def watched(*args: Any, **kw: Any) -> Any:
            if not self._is_me():
                return function(*args, **kw)
            self._step("before", function.__qualname__, lambda: stop(None, error))
            self._outside = True
            try:
                answer = function(*args, **kw)
            finally:
                self._outside = False
            self._step("after", function.__qualname__, lambda: stop(None, error))
            return answer

        with replaced(function, watched):
            yield

    def _end_session(self, connection: Any) -> None:
        """End a session at the server, as its time-out does; who has it learns so at its next word."""
        with self._engine.connect() as other:
            pid = connection.get_backend_pid()
            assert other.exec_driver_sql(f"SELECT pg_terminate_backend({pid}, 5000)").scalar()
