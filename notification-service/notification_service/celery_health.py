"""Tell a container whether its Celery worker lives: `python notification_service/celery_health.py`.

Run as a file, so that it loads nothing of the service: it is asked every few seconds.
"""

import hashlib
import os
import sys
import tempfile
from pathlib import Path

from chassis.heartbeats import worker_trouble


def heartbeat_file() -> Path:
    """Return where the Celery worker of this folder leaves its signs of life."""
    here = hashlib.sha256(os.getcwd().encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"celery-{here}.heartbeat"


if __name__ == "__main__":
    trouble = worker_trouble(heartbeat_file())
    print(trouble or "ok", file=sys.stderr if trouble else sys.stdout)
    sys.exit(1 if trouble else 0)
