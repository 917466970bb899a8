"""The lab's table: what makes a run red, void or green, and where it is written."""

from pathlib import Path

import pytest

from tests.faults.afterwards import Reconciliation
from tests.faults.cells import Verdict
from tests.faults.report import GREEN, RED, VOID, Row, Run, write_page

PAGE = """\
<!-- docker scenarios: written by the run -->
last scenarios
<!-- end of docker scenarios -->

# Page

<!-- docker: written by the run -->
last table
<!-- end of docker -->

<!-- plain: written by the run -->
kept
<!-- end of plain -->
"""


def row(*, in_flight: int = 14, broken: int = 0, trouble: str = "", fault: str = "kill") -> Row:
    return Row(
        component="postgres",
        fault=fault,
        calls=100,
        unknown=3,
        in_flight=in_flight,
        recovery=2.34,
        rest=8.0,
        rested=True,
        last="",
        seconds=15.0,
        verdicts=[Verdict(rule, rule != broken, f"detail {rule}") for rule in range(1, 8)],
        troubles=[trouble] if trouble else [],
    )


def run(*rows: Row) -> Run:
    return Run("docker", "2026-01-01", "abc", "a machine", {"PostgreSQL": "15"}, list(rows))


def test_a_run_is_green_when_every_cell_is() -> None:
    assert run(row(), row()).status == GREEN


def test_a_run_that_hit_too_little_is_void() -> None:
    assert run(row(in_flight=10), row(in_flight=9)).status == VOID
    assert run(row(in_flight=10), row(in_flight=10)).status == GREEN


@pytest.mark.parametrize(
    "bad", [row(broken=4), row(trouble="no order was placed"), row(broken=1, in_flight=0)]
)
def test_a_broken_rule_or_promise_makes_a_run_red(bad: Row) -> None:
    assert run(row(), bad, row()).status == RED


def test_a_run_without_a_cell_proves_nothing() -> None:
    assert run().status == VOID


def test_a_red_cell_says_what_is_broken() -> None:
    shown = run(row(broken=4, trouble="not at rest")).markdown()
    assert "| postgres | kill | 100 | 3 | 14 | 2.3 s | 8.0 s | ✓ | ✓ | ✓ | **✗** | ✓ | ✓ | ✓ |" in shown
    assert "- postgres, kill: rule 4: detail 4" in shown
    assert "- postgres, kill: not at rest" in shown


def test_a_run_replaces_the_table_of_its_own_mode_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    write_page(page, run(row()))
    write_page(page, run(row()))
    text = page.read_text()
    assert "last table" not in text
    assert "kept" in text
    assert text.count("| postgres | kill |") == 1


def test_table_and_scenarios_have_a_place_each(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    write_page(page, run(row(fault="kill × 5")))
    text = page.read_text()
    assert "last scenarios" not in text
    assert "last table" in text
    assert "1 cells, 0 red, 14 checkouts" in text


def test_a_page_without_a_place_for_the_table_stays(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Another page\n")
    with pytest.raises(ValueError, match="no place"):
        write_page(page, run(row()))
    assert page.read_text() == "# Another page\n"


def test_the_time_told_is_the_whole_run_s_not_the_sum_of_the_cells() -> None:
    whole = run(row(), row())
    whole.seconds = 43 * 60 + 10.0
    assert whole.summary() == "2 cells, 0 red, 28 checkouts in flight at the blows, 43 min from start to end"


def test_a_run_that_took_longer_than_promised_is_red() -> None:
    whole = run(row(), row())
    whole.limit, whole.seconds = 45, 45 * 60 + 1.0
    assert whole.status == RED
    assert "- the run took 45 min 1 s, more than its 45 min" in whole.markdown()
    whole.seconds = 45 * 60
    assert whole.status == GREEN
    whole.limit, whole.seconds = None, 9999.0
    assert whole.status == GREEN


def test_books_that_do_not_agree_afterwards_make_a_run_red() -> None:
    whole = run(row(), row())
    whole.reconciliations = [
        Reconciliation("order-service", 0, "drift 0\n"),
        Reconciliation("order-service", 1, "order 7: no mail of order.paid\ndrift 1\n"),
    ]
    assert whole.status == RED
    text = whole.markdown()
    assert "`flask reconcile` afterwards: drift 0; drift 1." in text
    assert "- `flask reconcile` of the order-service: order 7: no mail of order.paid; drift 1" in text


def test_books_that_agree_afterwards_are_told_in_one_line_under_the_table() -> None:
    whole = run(row(), row())
    whole.reconciliations = [Reconciliation("order-service", 0, "drift 0\n")] * 2
    assert whole.status == GREEN
    assert whole.markdown().endswith("✓ |\n\n`flask reconcile` afterwards: drift 0.")


def test_books_that_could_not_be_compared_are_no_proof() -> None:
    whole = run(row(), row())
    whole.reconciliations = [Reconciliation("order-service", 2, "the database is away\n")]
    assert whole.status == RED


def test_what_the_lab_had_to_do_otherwise_stands_in_the_page() -> None:
    whole = run(row(), row())
    whole.notes = ["by hand"]
    assert "checkouts in flight at the blows, 0 min from start to end.\nby hand.\n" in whole.markdown()


def test_what_came_up_after_the_last_check_makes_a_run_red() -> None:
    whole = run(row(), row())
    whole.late = ["at the last look: rule 5: detail 5"]
    assert whole.status == RED
    assert "- at the last look: rule 5: detail 5" in whole.markdown()
