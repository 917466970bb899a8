"""Every mutant still applies to the sources, and what survives is not taken for caught."""

import json
import shutil

import pytest

from tests.faults.mutant_page import BEGIN, END, Blown, Outcome, write_page
from tests.faults.mutant_table import EXPERIMENT, MUTANTS, REST, Change
from tests.faults.mutants import apply, tell
from tests.faults.rules import Verdict
from tests.faults.stage import REPOSITORY


def copy_of(changes, folder):
    """Copy the files that the changes are about."""
    for change in changes:
        target = folder / change.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / change.path, target)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_applies_and_is_still_python(mutant, tmp_path):
    changes = [*EXPERIMENT, *mutant.changes]
    copy_of(changes, tmp_path)
    apply(tmp_path, changes)
    for change in changes:
        compile((tmp_path / change.path).read_text(), change.path, "exec")
        assert (tmp_path / change.path).read_text() != (REPOSITORY / change.path).read_text()


def test_a_mutant_that_no_longer_applies_is_an_error(tmp_path):
    (tmp_path / "file.py").write_text("x = 1\n")
    with pytest.raises(ValueError, match="0 times"):
        apply(tmp_path, [Change("file.py", "x = 2", "x = 3")])


def outcome(rule, *blown):
    """Make an outcome of blows, each by the rules that broke."""
    told = [Blown("x", broken, [f"rule {number}: wrong" for number in broken]) for broken in blown]
    return Outcome("x", "y", rule, told)


@pytest.mark.parametrize(
    ("rule", "blown", "passed"),
    [
        (5, [[5]], True),
        (5, [[], [], [5, 6]], True),
        (5, [[], [], []], False),
        (5, [[4]], False),
        (5, [[REST]], False),
        (REST, [[], [REST, 5]], True),
        (REST, [[5]], False),
        (None, [[], []], True),
        (None, [[], [7]], False),
        (None, [], False),
    ],
)
def test_a_mutant_is_caught_by_its_rule_alone_and_the_control_by_none(rule, blown, passed):
    assert outcome(rule, *blown).passed is passed


def test_a_mutant_that_keeps_the_suite_from_its_rest_is_shown_with_what_the_lab_said_of_it():
    findings = ["no order was placed within 60 s of the blow", "not at rest 60 s after the fault: 3 unpaid"]
    line = Outcome("x", "y", REST, [Blown("x", [REST], findings)]).line()
    assert line == "| x | y | rest | rest ✓ | not at rest 60 s after the fault: 3 unpaid |"


def test_what_a_blow_broke_is_its_rules_and_the_rest(capsys):
    verdicts = [Verdict(4, True, "5 products"), Verdict(5, False, "wrong")]
    assert tell("x", verdicts, ["not at rest"], rested=False) == [REST, 5]
    assert tell("x", verdicts, [], rested=True) == [5]
    told = [Blown(**json.loads(line)) for line in capsys.readouterr().out.splitlines()]
    assert told[0] == Blown("x", [REST, 5], ["not at rest", "rule 5: wrong"])


def test_trouble_that_breaks_no_rule_makes_the_control_red():
    assert not Outcome("x", "y", None, [Blown("x", [], ["not at rest 60 s after the fault"])]).passed


def test_a_page_names_the_commit_and_keeps_what_stands_around_the_table(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    outcome = Outcome("nothing (control)", "nginx, kill", None, [Blown("nginx, kill", [], [])])
    write_page(page, [outcome], commit="0123456789ab", minutes=11.4)
    lines = page.read_text().splitlines()
    assert (lines[0], lines[1], lines[-2], lines[-1]) == ("before", BEGIN, END, "after")
    assert lines[2].endswith("commit `0123456789ab`, 11 min.")
    assert outcome.line() in lines
    assert "old" not in lines
