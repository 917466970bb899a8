"""What the commands of the plain suite say and leave."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.__main__ import main
from deploy.local.suite import Suite

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def broken_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let somebody press Ctrl-C while the suite starts."""

    def start(_: Suite) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Suite, "up", start)
    monkeypatch.setattr(sys, "argv", ["deploy.local", "--root", str(tmp_path), "up"])


@pytest.mark.usefixtures("broken_off")
def test_a_start_that_is_broken_off_says_what_to_do_next(capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 130
    told = "Broken off, so the suite may be half up: make up goes on, make down stops it.\n"
    assert capsys.readouterr() == ("", told)


@pytest.mark.usefixtures("broken_off")
def test_a_start_within_a_restore_leaves_the_last_word_to_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAYS_WHAT_IS_LEFT", "1")
    assert main() == 130
    assert capsys.readouterr() == ("", "")


def test_a_reset_does_not_say_that_the_data_is_kept(tmp_path: Path) -> None:
    for name in ("scripts", "deploy"):
        shutil.copytree(REPOSITORY / name, tmp_path / name)
    shutil.copy(REPOSITORY / ".env.example", tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/.mode").write_text("plain\n")
    done = subprocess.run(
        [str(tmp_path / "scripts/suite.sh"), "reset"],
        env={"PATH": os.environ["PATH"], "YES": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "Data and logs are deleted.\n"
    assert not (tmp_path / "data").exists()
