"""Outlasting a database that is away: what was sent must also be noted as sent."""

import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.orm import Session

from chassis.backoff import Backoff
from chassis.db import is_database_away
from chassis.logs import get_logger

LONGEST_PAUSE = 1.0

log = get_logger(__name__)
T = TypeVar("T")


def patiently(session: Session, work: Callable[[], T], *, seconds: float) -> T:
    """Do a transaction, again and again for so many seconds while the database is away."""
    backoff, ends = Backoff(LONGEST_PAUSE), time.monotonic() + seconds
    while True:
        try:
            return work()
        except Exception as error:
            session.rollback()
            if not is_database_away(error) or time.monotonic() > ends:
                raise
            log.warning("database away, waiting", reason=str(error).split("\n")[0])
            time.sleep(backoff.failed())
