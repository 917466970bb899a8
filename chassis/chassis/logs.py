"""Logs: one JSON object a line, to stdout and to `app.log`, written by many processes at once."""

import contextlib
import json
import logging
import os
import sys
import threading
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import orjson
import structlog

from chassis import context
from chassis.config import ServiceSettings

MAX_LINE = 4096  # bytes; an O_APPEND write up to this size never mixes with another
MAX_FILE = 20 * 1024 * 1024
KEPT_FILES = 5

get_logger = structlog.get_logger


class AppendedFile:
    """A log file shared by several processes: each line is one append; a renamed file is reopened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.Lock()
        self.descriptor: int | None = None
        self.inode = 0

    def write(self, line: bytes) -> None:
        """Append one line; a log that can't be written never stops the shop."""
        with self.lock, contextlib.suppress(OSError):
            os.write(self._open(), line)

    def _open(self) -> int:
        try:
            current = os.stat(self.path).st_ino
        except FileNotFoundError:
            current = 0
        if self.descriptor is not None and current == self.inode:
            return self.descriptor
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None
        self.descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self.inode = os.fstat(self.descriptor).st_ino
        return self.descriptor


class LineLogger:
    """Where structlog's rendered lines go."""

    def __init__(self, file: AppendedFile | None) -> None:
        self.file = file

    def msg(self, line: bytes) -> None:
        """Write one rendered event."""
        with contextlib.suppress(OSError):
            os.write(sys.stdout.fileno(), line)
        if self.file:
            self.file.write(line)

    log = debug = info = warning = error = critical = exception = msg


def configure_logs(settings: ServiceSettings, process: str = "http") -> None:
    """Set up structlog and the standard library's loggers for this process."""
    file = AppendedFile(settings.log_dir / "app.log") if settings.log_dir else None
    shared: list[Any] = [
        _facts(settings.service, process),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, _render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: LineLogger(file),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(_Lines(LineLogger(file)))
    handler.terminator = ""
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _render_text],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    gunicorn = logging.getLogger("gunicorn.error")
    gunicorn.handlers.clear()
    gunicorn.propagate = True


class _Lines:
    """The stream face that a standard library handler wants."""

    def __init__(self, logger: LineLogger) -> None:
        self.logger = logger

    def write(self, line: str) -> None:
        self.logger.msg(line.encode())

    def flush(self) -> None:
        """Every write is already out."""


def _facts(service: str, process: str) -> Any:
    def add(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault("service", service)
        event.setdefault("process", process)
        if request_id := context.request_id.get():
            event.setdefault("request_id", request_id)
            event.setdefault("traceparent", context.traceparent.get())
        return event

    return add


def _render(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> bytes:
    line = _dump(event)
    if len(line) <= MAX_LINE:
        return line
    # The longest facts (a traceback, say) are cut, keeping the end, where its message stands.
    short = {k: "…" + v[-800:] if isinstance(v, str) and len(v) > 800 else v for k, v in event.items()}
    line = _dump(short)
    if len(line) <= MAX_LINE:
        return line
    kept = ("time", "level", "service", "process", "request_id")
    return orjson.dumps({k: event[k] for k in kept if k in event} | {"event": "log line too long"}) + b"\n"


def _dump(event: MutableMapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS) + b"\n"
    except TypeError:
        # Half a character, an integer beyond 64 bits: what is logged about is bad enough already.
        return json.dumps(event, default=str, skipkeys=True).encode() + b"\n"


def _render_text(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
    return _render(logger, method, event).decode()


def rotate_logs(settings: ServiceSettings) -> None:
    """Rename `app.log` once it is full, keeping five files; one process a service calls this."""
    if not settings.log_dir:
        return
    path = settings.log_dir / "app.log"
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size < MAX_FILE:
            return
        for number in range(KEPT_FILES - 1, 0, -1):
            older = path.with_name(f"app.log.{number}")
            newer = path.with_name(f"app.log.{number - 1}") if number > 1 else path
            if newer.exists():
                newer.replace(older)
