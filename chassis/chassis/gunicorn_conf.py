"""Gunicorn: one process of 16 threads; a service grows by replicas, each with metrics of its own."""

import os
import signal
from typing import Any

bind = f"{os.environ.get('BIND_HOST', '127.0.0.1')}:{os.environ['PORT']}"
worker_class = "chassis.gunicorn_worker.Worker"
workers = 1
threads = 16
# The port opens when the app can answer: who finds a new replica by name must not wait while it is loaded.
preload_app = True
worker_tmp_dir = "/dev/shm"
# As much as Nginx lets through (large_client_header_buffers), whose refusals carry the request id.
limit_request_line = 8190
limit_request_field_size = 16380
limit_request_fields = 1000
# Longer than Nginx keeps an idle upstream connection (60 s), so that Nginx never meets a closing one.
keepalive = 75
timeout = 30
graceful_timeout = 20
accesslog = None
# Its start and stop are not worth a line that is no JSON; its warnings are.
loglevel = "warning"
# Two services under one user would share its path.
control_socket_disable = True


def when_ready(_server: Any) -> None:
    """Leave SIGHUP alone: a worker that ends closes the port for good (gunicorn_worker.py)."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
