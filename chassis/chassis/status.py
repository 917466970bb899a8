"""What the worker tells the HTTP processes, by way of the database."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Text, func
from sqlalchemy.dialects.postgresql import TIMESTAMP, insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from chassis.broker import BrokerAway, BrokerRefused, Link
from chassis.config import ServiceSettings
from chassis.db import Base, transaction
from chassis.logs import get_logger

log = get_logger(__name__)


class WorkerStatus(Base):
    """The last word on one thing: `heartbeat`, `broker`, `dead_letters:<queue>`."""

    __tablename__ = "worker_status"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    value: Mapped[str] = mapped_column(Text)
    updated_at: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=True))


class StatusReport:
    """Asks the broker on a connection of its own and writes the answers down."""

    def __init__(self, settings: ServiceSettings, queues: Sequence[str]) -> None:
        self._settings, self._queues = settings, queues
        self._link: Link | None = None

    def __call__(self, session: Session) -> None:
        """Write heartbeat, the broker's state and the numbers of dead letters."""
        rows = {"heartbeat": "ok", **self._ask()}
        statement = insert(WorkerStatus).values(
            [{"name": name, "value": value, "updated_at": func.now()} for name, value in rows.items()]
        )
        fresh = {"value": statement.excluded.value, "updated_at": statement.excluded.updated_at}
        with transaction(session) as here:
            here.execute(statement.on_conflict_do_update(index_elements=["name"], set_=fresh))

    def _ask(self) -> dict[str, str]:
        counts: dict[str, str] = {}
        try:
            if self._link is None:
                self._link = Link(self._settings, f"{self._settings.service} status")
            self._link.pump(0)
            for queue in self._queues:
                counts[f"dead_letters:{queue}"] = str(self._link.count(f"{queue}.dead"))
        except BrokerRefused as error:
            log.warning("broker refused to count", reason=str(error))
            self.close()
        except BrokerAway as error:
            log.warning("broker away", reason=str(error))
            self.close()
            return {"broker": "away"}
        return {"broker": "ok", **counts}

    def close(self) -> None:
        """Give up the connection."""
        if self._link is not None:
            self._link.close()
            self._link = None
