"""One cell of the table: load, a burst, the blow, recovery, rest, and the judges' verdicts."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import psycopg2

from tests.faults.calls import wait_until
from tests.faults.load import Load
from tests.faults.report import Row
from tests.faults.rest import NOT_AT_REST, management, wait_for_rest
from tests.faults.rules import Cell, check
from tests.faults.stage import Stage, StageError

# Of the sixteen connections; the others go on browsing.
BURST = 14
# So many checkouts a blow has to meet, or the burst is sent again, so many times at most.
FEWEST_MET, BURSTS = 5, 3
SECONDS_BEFORE, SECONDS_AFTER = 2.0, 1.0
SECONDS_TO_REST = 60.0
BACKLOG = "SELECT count(*) FROM outbox WHERE created_at < to_timestamp(%s)"


@dataclass
class Attempt:
    """What happened to one component so far; times are seconds since 1970."""

    stage: Stage
    load: Load
    component: str
    fault: str
    began: float = field(default_factory=time.time)
    strikes: list[float] = field(default_factory=list)
    # When the last one had its effect: an orderly stop takes its time.
    struck: float = 0.0
    healed: float = 0.0
    recoveries: list[float] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    def begin(self) -> None:
        """Start the load and let it get going."""
        self.load.start()
        time.sleep(SECONDS_BEFORE)

    @contextmanager
    def blow(self, fault: str, *, unaided: bool = False) -> Iterator[None]:
        """Strike amid a burst of checkouts; the fault lasts as long as the block.

        From an unaided one the suite has to come back without the lab's hand.
        """
        blow = self.stage.blow(self.component, fault)
        if unaided and blow.by_hand:
            self.troubles.append(blow.by_hand)
        blow = replace(blow, heal=partial(self._heal, blow.heal))
        self._burst()
        self.strikes.append(time.time())
        with blow:
            self.struck = time.time()
            yield
        self.healed = time.time()

    def _burst(self) -> None:
        for _ in range(BURSTS):
            if self.load.burst(BURST) >= FEWEST_MET:
                return

    def _heal(self, heal: Callable[[], object]) -> None:
        """Heal; what does not come back as it was makes this cell red, and the others follow."""
        try:
            heal()
        except StageError as error:
            self.troubles.append(str(error))

    def await_success(self, patience: float) -> None:
        """Wait for the first order that is begun and placed after the last blow."""
        seconds = self.load.wait_for_success(self.struck, patience)
        if seconds is None or seconds > patience:
            self.troubles.append(f"no order was placed within {patience:.0f} s of the blow")
        if seconds is not None:
            self.recoveries.append(self.struck - self.strikes[-1] + seconds)

    def await_drained(self, patience: float) -> None:
        """Wait until RabbitMQ is back, and then until what was recorded before has gone out."""
        if not wait_until(self._broker_answers, SECONDS_TO_REST):
            self.troubles.append("RabbitMQ did not come back")
            return
        returned = time.time()
        drained = wait_until(lambda: not self._backlog(returned), patience, every=0.25)
        self.recoveries.append(time.time() - returned)
        if not drained:
            self.troubles.append(f"{self._backlog(returned)} events waited longer than {patience:.0f} s")

    def _broker_answers(self) -> bool:
        try:
            return management(self.stage).call("GET", "overview")[0] == 200
        except OSError:
            return False

    def _backlog(self, before: float) -> int:
        """Count the events that were recorded before that moment and are not sent yet."""
        count = 0
        for way in self.stage.databases.values():
            with closing(psycopg2.connect(way)) as connection, connection.cursor() as cursor:
                cursor.execute(BACKLOG, (before,))
                count += cursor.fetchall()[0][0]
        return count

    def finish(self) -> Row:
        """Stop the load, settle what is unknown, wait for rest, and have the judges look."""
        time.sleep(SECONDS_AFTER)
        self.load.stop()
        met = [self.load.record.in_flight_at(strike) for strike in self.strikes]
        self.troubles += ["the blow met nothing" for count in met if not count]
        if unsettled := self.load.settle():
            self.troubles.append(f"{unsettled} calls have no definite answer")
        over = time.monotonic() - (time.time() - self.healed)
        rest = wait_for_rest(self.stage, over + SECONDS_TO_REST)
        if not rest.reached:
            self.troubles.append(f"{NOT_AT_REST} {SECONDS_TO_REST:.0f} s after the fault: {rest.last}")
        at_rest = time.time() - self.healed
        verdicts = check(
            self.stage, self.load.record, Cell(self.component, self.fault, self.strikes[0], self.healed)
        )
        calls = [call for call in self.load.record.calls if call.tries and call.tries[0].started > self.began]
        return Row(
            component=self.component,
            fault=self.fault,
            calls=len(calls),
            unknown=sum(call.was_unknown for call in calls),
            in_flight=sum(met),
            recovery=max(self.recoveries, default=None),
            rest=at_rest,
            rested=rest.reached,
            last=rest.last,
            seconds=time.time() - self.began,
            verdicts=verdicts,
            troubles=self.troubles,
        )
