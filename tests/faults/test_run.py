"""What a run promises of its longer scenarios, and that the judges look once more when it is over."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from tests.faults import run as run_module
from tests.faults.attempt import Attempt
from tests.faults.cells import Verdict
from tests.faults.report import RED
from tests.faults.run import KILLS, Selection, kill_database_again_and_again, run
from tests.faults.test_report import row
from tests.faults.test_stage import NoLoad, Rehearsal


class Noted:
    """An attempt that only notes its blows."""

    def __init__(self) -> None:
        self.blows: list[tuple[str, bool]] = []

    def begin(self) -> None:
        pass

    @contextmanager
    def blow(self, fault: str, *, unaided: bool = False) -> Iterator[None]:
        self.blows.append((fault, unaided))
        yield

    def await_success(self, patience: float) -> None:
        pass

    def finish(self) -> None:
        pass


def test_a_database_that_is_killed_again_and_again_has_to_come_back_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_module, "SECONDS_BETWEEN", 0.0)
    noted = Noted()
    kill_database_again_and_again(cast(Attempt, noted))
    assert noted.blows == [("kill", True)] * KILLS


def test_what_is_found_after_the_last_cell_makes_the_run_red(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Verdict(4, True, "5 products"), Verdict(5, False, "event 1: lost")]
    instead: dict[str, Any] = {
        "STAGES_OF": {"plain": (Rehearsal,)},
        "Load": lambda stage, think: NoLoad(),
        "run_on": lambda *_, **__: iter([row(), row()]),
        "check_again": lambda stage, record: found,
        "describe_versions": lambda stage: {},
        "reconcile": lambda stage: [],
        "write_json": lambda path, result: None,
    }
    for name, value in instead.items():
        monkeypatch.setattr(run_module, name, value)
    result = run(Selection("plain", ("nginx",), ("kill",), scenarios=False), 0.0)
    assert result.troubles == ["at the last look: rule 5: event 1: lost"]
    assert result.status == RED
