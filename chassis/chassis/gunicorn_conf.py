"""Gunicorn: one process of 16 threads; a service grows by replicas, each with metrics of its own."""

import os

bind = f"{os.environ.get('BIND_HOST', '127.0.0.1')}:{os.environ['PORT']}"
worker_class = "chassis.gunicorn_worker.Worker"
workers = 1
threads = 16
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
