"""What the command line takes, and how long the run that it asks for may last."""

import sys

import pytest

from tests.faults.__main__ import choose, read_arguments, tell
from tests.faults.report import GREEN, RED
from tests.faults.test_report import row, run


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch):
    """Return a function that reads the arguments of such a command."""

    def read(*words: str):
        monkeypatch.setattr(sys, "argv", ["faults", *words])
        return read_arguments()

    return read


@pytest.mark.parametrize(
    "words",
    [
        ["--pause-seconds", "5"],
        ["--component", "redis"],
        ["--fault", "kill"],
        ["--quick"],
    ],
)
def test_what_is_published_is_whole_and_as_long_as_promised(given, words, capsys):
    with pytest.raises(SystemExit) as ended:
        given("--out", "page.md", *words)
    assert ended.value.code == 2
    assert "--out" in capsys.readouterr().err


def test_the_promised_pause_may_be_said(given):
    assert given("--out", "page.md", "--pause-seconds", "20").pause_seconds == 20


@pytest.mark.parametrize(
    ("words", "minutes"),
    [
        ([], 45),
        (["--quick"], 15),
        (["--scenarios"], None),
        (["--component", "redis"], None),
        (["--fault", "kill"], None),
        (["--quick", "--component", "redis"], None),
        (["--pause-seconds", "60"], None),
    ],
)
def test_a_whole_run_has_a_limit_and_a_part_of_one_has_none(given, words, minutes):
    assert choose(given("--mode", "plain", *words)).minutes == minutes


def test_a_run_that_took_too_long_is_red_and_says_why(capsys):
    slow = run(row(), row())
    slow.limit, slow.seconds = 45, 45 * 60 + 1.0
    assert tell(slow) == RED
    assert "the run took 45 min 1 s, more than its 45 min" in capsys.readouterr().out
    slow.seconds = 45 * 60
    assert tell(slow) == GREEN
