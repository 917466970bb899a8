"""The seven rules, judged after every blow.

What counts are the books outside the suite (the bank's ledger, the mail sink, the driver's record); the
suite's own tables are compared with them. A service is asked nothing.
"""

import time
import weakref
from collections.abc import Callable, Iterator

import psycopg2
import urllib3

from tests.faults.calls import Record
from tests.faults.cells import Cell, Verdict
from tests.faults.evidence import BookClosed, Evidence, Reader, Witness
from tests.faults.rules_events import check_events
from tests.faults.rules_mail import check_mails
from tests.faults.rules_money import check_captures, check_paid
from tests.faults.rules_orders import check_orders
from tests.faults.rules_stock import check_stock
from tests.faults.rules_suite import check_suite

__all__ = ["RULES", "Cell", "Judges", "Verdict", "check", "check_again"]

# As long may a book stay closed.
PATIENCE = 20.0
# RabbitMQ counts its messages every 5 s, so that its number of dead letters may be as old as that. All else
# is as it stays once the suite is at rest.
STALE_SECONDS = 6.0
SHOWN = 5
RULES = {
    1: "every order answered 201 is there; one key, one order; no money moves unasked; no answer is a 500",
    2: "captures per order ≤ 1, each for a paid order or refunded in full, to the cent",
    3: "no order is paid without a capture, or by money that went back",
    4: "the books of each product agree; stock never below 0, and looked at all the time",
    5: "every event's effect exactly once; no older state over a newer",
    6: "every paid order's receipt is in the mail sink, and no mail that nothing asked for",
    7: "nothing restarted but by the lab; no dead letter but the planted ones",
}

# The rule and what is wrong, which begins with whose fault it is: `order 1: …`, whatever the numbers are.
Finding = tuple[int, str]


class Judges:
    """Judge one suite again and again; what was found once is not told again."""

    def __init__(self, stage: Witness, record: Record) -> None:
        self._record, self._currency = record, stage.env.get("CURRENCY", "CNY")
        self._reader = Reader(stage)
        self._cells: list[Cell] = []
        self._told: set[Finding] = set()
        self._polls = 0

    def check(self, cell: Cell, patience: float = STALE_SECONDS) -> list[Verdict]:
        """Judge what a blow has left; what is gone at a look after RabbitMQ has counted does not count."""
        self._cells.append(cell)
        return self._judge(patience, set(self._check_polls()))

    def check_again(self, patience: float = STALE_SECONDS) -> list[Verdict]:
        """Judge after the last blow what came up too late for its check, and so for any."""
        return self._judge(patience, set())

    def _judge(self, patience: float, new: set[Finding]) -> list[Verdict]:
        evidence = self._look()
        found = self.find(evidence)
        ends = time.monotonic() + patience
        while found and time.monotonic() < ends:
            time.sleep(1)
            evidence = self._look()
            found = _find_again(found, self.find(evidence))
        new |= found - self._told
        self._told |= found
        counts = _counts(self._record, evidence)
        return [_verdict(rule, sorted(text for r, text in new if r == rule), counts) for rule in RULES]

    def _look(self) -> Evidence:
        """Look, again and again while a server that was struck does not answer yet."""
        ends = time.monotonic() + PATIENCE
        while True:
            try:
                return self._reader.look()
            except (psycopg2.OperationalError, urllib3.exceptions.HTTPError, BookClosed):
                if time.monotonic() > ends:
                    raise
                time.sleep(1)

    def _check_polls(self) -> Iterator[Finding]:
        """Find that nobody has looked for a stock below zero since the check before."""
        before, self._polls = self._polls, self._record.stock_polls
        if self._polls <= before:
            yield 4, f"stock poll: {self._polls} looks, none since the check before"

    def find(self, evidence: Evidence) -> set[Finding]:
        """Return all that is wrong, by rule."""
        rules: dict[int, Callable[[], Iterator[str]]] = {
            1: lambda: check_orders(self._record, evidence),
            2: lambda: check_captures(self._record, evidence, self._currency),
            3: lambda: check_paid(self._record, evidence),
            4: lambda: check_stock(self._record, evidence),
            5: lambda: check_events(self._record, evidence),
            6: lambda: check_mails(self._record, evidence, self._cells),
            7: lambda: check_suite(self._record, evidence),
        }
        return {(rule, text) for rule, search in rules.items() for text in search()}


def _find_again(before: set[Finding], now: set[Finding]) -> set[Finding]:
    """Keep what is wrong with what was wrong before: its numbers may be others at each look."""
    subjects = {(rule, _subject(text)) for rule, text in before}
    return {(rule, text) for rule, text in now if (rule, _subject(text)) in subjects}


def _subject(text: str) -> str:
    return text.partition(":")[0]


def _verdict(rule: int, wrong: list[str], counts: dict[int, str]) -> Verdict:
    if not wrong:
        return Verdict(rule, True, counts[rule])
    more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    return Verdict(rule, False, "; ".join(wrong[:SHOWN]) + more)


def _counts(record: Record, evidence: Evidence) -> dict[int, str]:
    """Say how much each rule has looked at, so that a verdict over nothing shows."""
    paid = sum(order.paid for order in evidence.orders.values())
    events = sum(map(len, evidence.events.values()))
    return {
        1: f"{len(record.of('order'))} order calls, {len(evidence.orders)} orders",
        2: f"{len(evidence.captures())} captures, {len(evidence.given_back())} of them with refunds",
        3: f"{paid} paid orders",
        4: f"{len(evidence.stock)} products, {len(evidence.movements)} movements, {record.stock_polls} polls",
        5: f"{events} events, {len(evidence.notifications)} notifications",
        6: f"{len(evidence.mails)} mails",
        7: f"{len(evidence.restarts)} components, {sum(evidence.dead.values())} dead letters",
    }


_judges: "weakref.WeakKeyDictionary[Record, Judges]" = weakref.WeakKeyDictionary()


def check(stage: Witness, record: Record, cell: Cell) -> list[Verdict]:
    """Judge a blow."""
    return _judges_of(stage, record).check(cell)


def check_again(stage: Witness, record: Record) -> list[Verdict]:
    """Judge once more after the last blow of a stage."""
    return _judges_of(stage, record).check_again()


def _judges_of(stage: Witness, record: Record) -> Judges:
    """Return the judges of a record, who stay the same, so that each finding is told once."""
    if record not in _judges:
        _judges[record] = Judges(stage, record)
    return _judges[record]
