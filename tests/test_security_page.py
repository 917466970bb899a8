"""What SECURITY.md says is covered by a test is covered by one that exists."""

import re

import pytest

from tests.test_docs import ROOT

PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)))
ROWS = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if re.match(r"\| V\d", line)]


@pytest.mark.parametrize(("path", "name"), NAMED, ids=[f"{path}::{name}" for path, name in NAMED])
def test_a_test_that_is_named_exists(path, name):
    text = (ROOT / path).read_text(encoding="utf-8")
    assert not name or re.search(rf"^ *def {name}\(", text, re.MULTILINE)


def test_each_of_the_ten_risks_has_a_test():
    rows = re.findall(r"^\| (API\d+) .+ \| .+ \| (.+) \|$", PAGE, re.MULTILINE)
    assert [name for name, _ in rows] == [f"API{number}" for number in range(1, 11)]
    assert [name for name, shown in rows if "`tests/" not in shown] == []


def test_each_requirement_has_a_test_or_a_reason():
    assert len(ROWS) > 60
    for requirement, state, shown in ROWS:
        assert state in ("yes", "in part", "no", "–"), requirement
        assert len(shown) > 10, requirement


def test_no_requirement_is_judged_twice():
    named = [name for requirement, *_ in ROWS for name in re.findall(r"V\d+\.\d+\.\d+", requirement)]
    assert len(named) == len(set(named))


def test_pages_that_are_named_exist():
    pages = set(re.findall(r"`(docs/[\w.-]+)`", PAGE))
    assert [page for page in pages if not (ROOT / page).exists()] == []
