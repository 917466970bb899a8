"""Gunicorn: one process of 16 threads; a service grows by replicas, each with metrics of its own."""

import os

bind = f"{os.environ.get('BIND_HOST', '127.0.0.1')}:{os.environ['PORT']}"
worker_class = "gthread"
workers = 1
threads = 16
worker_tmp_dir = "/dev/shm"
# Longer than Nginx keeps an idle upstream connection (60 s), so that Nginx never meets a closing one.
keepalive = 75
timeout = 30
graceful_timeout = 20
accesslog = None
# Its start and stop are not worth a line that is no JSON; its warnings are.
loglevel = "warning"
# Two services under one user would share its path.
control_socket_disable = True
