"""Celery on `notification.tasks`: how it is set up, and how a task is sent.

The broker's user may declare nothing: queue and policies are made by the set-up step, and whatever of
Celery would declare something of its own (gossip, mingle, remote control, delayed delivery) is off.
"""

import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID

import celery
import kombu
from kombu.exceptions import KombuError

from chassis.errors import DependencyAway
from notification_service.config import Settings

QUEUE = "notification.tasks"
TASK = "notification.send"
ANSWER_SECONDS = 5.0


def make_celery(settings: Settings) -> celery.Celery:
    """Set up Celery; nothing connects until it is used."""
    app = celery.Celery("notification", set_as_current=False)
    # The quorum type is told although nothing is declared: it turns off the prefetch limit that
    # a channel's consumers share, which quorum queues refuse.
    queue = kombu.Queue(
        QUEUE,
        kombu.Exchange(""),
        routing_key=QUEUE,
        queue_arguments={"x-queue-type": "quorum"},
        no_declare=True,
    )
    app.conf.update(
        broker_url=_url(settings),
        broker_connection_timeout=3,
        broker_heartbeat=30,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # Refused login or no such queue: the set-up step has not run yet, which is waited for, too.
        broker_channel_error_retry=True,
        broker_transport_options={
            "confirm_publish": True,
            "client_properties": {"connection_name": f"{settings.service} celery"},
        },
        task_queues=[queue],
        task_default_queue=QUEUE,
        task_default_exchange="",
        task_default_routing_key=QUEUE,
        task_create_missing_queues=False,
        task_serializer="json",
        accept_content=["json"],
        result_backend=None,
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_publish_retry=False,
        # Threads, for sending is waiting: half the memory of two processes beside their parent.
        worker_pool="threads",
        worker_concurrency=2,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_consumer="notification_service.celery_worker:Consumer",
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        enable_utc=True,
    )
    return app


def _url(settings: Settings) -> str:
    return kombu.Connection(
        transport="pyamqp",
        hostname=settings.amqp_host,
        port=settings.amqp_port,
        userid=settings.amqp_user,
        password=settings.amqp_password.get_secret_value(),
        virtual_host="/",
    ).as_uri(include_password=True)


class TaskQueue:
    """Sends tasks on one kept connection, each confirmed by the broker, and counts those that wait."""

    def __init__(self, settings: Settings) -> None:
        self._celery = make_celery(settings)
        unconnected = self._celery.connection_for_write()
        self._errors = (*unconnected.connection_errors, *unconnected.channel_errors)
        self._lock = threading.Lock()
        self._producer: Any = None

    def send(self, notification_id: UUID, request_id: str, traceparent: str) -> None:
        """Send one notification's task; raise `DependencyAway` when the broker has not got it."""
        self._ask(
            lambda producer: self._celery.send_task(
                TASK,
                args=[str(notification_id)],
                headers={"request_id": request_id, "traceparent": traceparent},
                producer=producer,
                confirm_timeout=ANSWER_SECONDS,
            )
        )

    def count(self) -> int:
        """Count the tasks that no worker has taken yet; needs no permission on the queue."""
        answer = self._ask(lambda producer: producer.channel.queue_declare(QUEUE, passive=True))
        return int(answer.message_count)

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        with self._lock:
            fresh = self._producer is None
            try:
                return self._ask_once(question)
            except DependencyAway:
                # A kept connection may have died since its last use; a new one tells.
                if fresh:
                    raise
                return self._ask_once(question)

    def _ask_once(self, question: Callable[[Any], Any]) -> Any:
        try:
            if self._producer is None:
                self._producer = self._connect()
            return question(self._producer)
        except (KombuError, *self._errors) as error:
            self.close()
            raise DependencyAway("rabbitmq") from error

    def _connect(self) -> Any:
        # Without heartbeats, which nobody would send between two sweeps.
        connection = self._celery.connection_for_write(
            heartbeat=0,
            transport_options={
                **self._celery.conf.broker_transport_options,
                "read_timeout": ANSWER_SECONDS,
                "write_timeout": ANSWER_SECONDS,
            },
        )
        connection.ensure_connection(max_retries=1, interval_start=0)
        return self._celery.amqp.Producer(connection, auto_declare=False)

    def close(self) -> None:
        """Give up the connection."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.connection.collect(socket_timeout=1)
