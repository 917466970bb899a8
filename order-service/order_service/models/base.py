"""What the models share."""

from datetime import UTC, datetime
from decimal import Decimal

from sqlalchemy import DateTime

from chassis.db import make_db

db = make_db()

TIME = DateTime(timezone=True)
NOTHING = Decimal("0.00")


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)
