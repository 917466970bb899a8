"""The Celery worker's own parts: a consumer that declares nothing, signs of life, logs."""

import logging
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from celery import Celery, bootsteps, signals
from celery.exceptions import CPendingDeprecationWarning
from celery.worker import consumer
from celery.worker.state import maybe_shutdown
from kombu.exceptions import KombuError

from chassis.heartbeats import Heartbeats, write_heartbeat
from chassis.logs import configure_logs, get_logger
from notification_service.celery_health import heartbeat_file
from notification_service.config import Settings
from notification_service.task_queue import QUEUE, TASK

# What TaskQueue leaves empty would have Celery hold the message back, stumble or lose it.
LEFT_EMPTY: dict[str, tuple[Any, ...]] = {
    "eta": (None,),
    "expires": (None,),
    "timelimit": (None, [None, None]),
    "headers": (None,),
    "stamped_headers": (None, []),
}
TEXTS = ("shadow", "request_id", "traceparent")
# What a body's third part may name; a task of ours has none of it.
SEQUELS = {"callbacks", "errbacks", "chain", "chord"}
SIGN_SECONDS = 5
# Ten minutes: longer than a task waits for anything, be it a database in which to note the outcome.
HANG_SIGNS = 120
RETRY_SECONDS = 1.0

log = get_logger(__name__)


# Tasks that run, by id; each has its one beat at its beginning.
running = Heartbeats()


class SignsOfLife(bootsteps.StartStopStep):
    """Leaves a sign of life every 5 s while the event loop runs and the broker is there.

    It ends the process when a task hangs, so that the restart policy acts: two such would stop everything.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        self._timer: Any = None
        super().__init__(parent, **kwargs)

    def start(self, parent: Any) -> None:
        """Begin, once tasks are being consumed."""
        log.info("celery consumes")
        self._leave()
        self._timer = parent.timer.call_repeatedly(SIGN_SECONDS, self._leave)

    def stop(self, parent: Any) -> None:
        """End: without its broker the worker is not healthy."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _leave(self) -> None:
        running.tick()
        if hanging := running.silent(HANG_SIGNS):
            log.critical("task hangs, ending the process", tasks=hanging)
            os._exit(1)
        try:
            write_heartbeat(Path(heartbeat_file()), [])
        except OSError as error:
            log.error("heartbeat not written", reason=str(error))


def find_trouble(message: Any) -> str | None:
    """Say why a message is no task of `TaskQueue`'s, or return None when it is one."""
    headers = message.headers or {}
    if headers.get("task") != TASK or not isinstance(headers.get("id"), str):
        return "it is no task of ours"
    if any(headers.get(name) not in empty for name, empty in LEFT_EMPTY.items()):
        return "it asks for more than a task of ours"
    if not all(isinstance(headers.get(name), str | None) for name in TEXTS):
        return "a header of it is no text"
    try:
        [[notification_id], arguments, sequel] = message.decode()
        UUID(notification_id)
    except (KombuError, ValueError, TypeError, AttributeError, LookupError) as error:
        return f"its body names no notification: {type(error).__name__}"
    if arguments != {} or not _is_empty(sequel):
        return "its body asks for more than a task of ours"
    return None


def _is_empty(sequel: Any) -> bool:
    """Tell whether nothing is to follow the task."""
    return isinstance(sequel, dict) and sequel.keys() <= SEQUELS and not any(sequel.values())


class Consumer(consumer.Consumer):
    """A consumer that takes tasks and does nothing else on the broker.

    Remote control, gossip, mingle and events need queues of their own, and delayed delivery two
    dozen; this worker's user may declare none.
    """

    class Blueprint(consumer.Consumer.Blueprint):
        """The steps that are left."""

        default_steps = (
            "celery.worker.consumer.connection:Connection",
            "celery.worker.consumer.tasks:Tasks",
            SignsOfLife,
            "celery.worker.consumer.consumer:Evloop",
        )

    def __init__(self, *args: Any, worker_options: dict[str, Any] | None = None, **kwargs: Any) -> None:
        # Steps that Tasks brings along.
        off = {
            "without_mingle": True,
            "without_gossip": True,
            "without_heartbeat": True,
            "task_events": False,
        }
        super().__init__(*args, worker_options={**(worker_options or {}), **off}, **kwargs)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """Take the tasks that this service sends; every other message is a dead letter at once.

        Celery's own handler drops some of them; others end the worker, which would meet them again.
        """
        take = super().create_task_handler(*args, **kwargs)

        def on_message(message: Any) -> None:
            if trouble := find_trouble(message):
                self._set_aside(message, trouble)
            else:
                take(message)

        return on_message

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Set aside what can't even be unpacked."""
        self._set_aside(message, f"it can't be unpacked: {type(exc).__name__}")

    def _set_aside(self, message: Any, reason: str) -> None:
        log.error("message set aside", queue=QUEUE, reason=reason)
        message.reject_log_error(logging.getLogger(__name__), self.connection_errors)

    def ensure_connected(self, conn: Any) -> Any:
        """Connect once a second until the broker is there; Celery's own waits grow to half a minute."""
        conn.ensure_connection(
            lambda exc, _: log.warning("broker away", reason=f"{type(exc).__name__}: {exc}"[:500]),
            interval_start=RETRY_SECONDS,
            interval_step=0,
            interval_max=RETRY_SECONDS,
            callback=maybe_shutdown,
        )
        return conn

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Wait for a broker that does not let us in yet."""
        log.warning("broker away", reason=f"{type(exc).__name__}: {exc}"[:500])
        time.sleep(RETRY_SECONDS)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Wait for a broker that is gone, or has no queue for us yet."""
        super().on_connection_error_after_connected(exc)
        log.warning("broker lost", reason=f"{type(exc).__name__}: {exc}"[:500])
        time.sleep(RETRY_SECONDS)


def prepare_worker(celery: Celery, settings: Settings) -> Celery:
    """Let the worker's logs go the way of all logs: JSON lines to stdout and app.log."""

    # That somebody answers this signal keeps Celery from setting up loggers of its own.
    @signals.setup_logging.connect(weak=False)
    def set_up_logs(**_: Any) -> None:
        configure_logs(settings, "celery")

    @signals.task_prerun.connect(weak=False)
    def note_beginning(task_id: str, **_: Any) -> None:
        running.beat(task_id)

    @signals.task_postrun.connect(weak=False)
    def note_end(task_id: str, **_: Any) -> None:
        running.forget(task_id)

    # It announces what a later release does by default, which the settings already decide.
    warnings.simplefilter("ignore", CPendingDeprecationWarning)

    # The banner is for people at a terminal.
    @signals.celeryd_init.connect(weak=False)
    def be_quiet(instance: Any, **_: Any) -> None:
        instance.quiet = True

    return celery
