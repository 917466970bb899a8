"""`make env` writes settings that start, with secrets of their own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.settings import read_values
from deploy.setup.checks import OPTIONAL, SECRETS, check_settings
from tests.servers import REPOSITORY

EXAMPLE = read_values(REPOSITORY / ".env.example")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a folder with what the command needs."""
    (tmp_path / "deploy/setup").mkdir(parents=True)
    (tmp_path / "scripts").mkdir()
    for name in (".env.example", "deploy/setup/checks.py", "scripts/make_env.py"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    return tmp_path


def make_env(clone: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, str(clone / "scripts/make_env.py")]
    environment = {"PATH": os.environ["PATH"]} | variables
    return subprocess.run(line, env=environment, capture_output=True, text=True, check=False)


def test_every_secret_is_random_and_every_other_setting_the_examples(clone: Path) -> None:
    assert make_env(clone).returncode == 0
    made = read_values(clone / ".env")
    assert made.keys() == EXAMPLE.keys()
    assert {name for name in made if made[name] != EXAMPLE[name]} == set(SECRETS)
    assert len({made[name] for name in SECRETS}) == len(SECRETS)
    assert min(len(made[name]) for name in SECRETS) >= 24
    assert {made[name] for name in OPTIONAL} == {""}


def test_the_file_is_for_its_owner_alone_and_no_secret_is_printed(clone: Path) -> None:
    os.umask(os.umask(0))
    done = make_env(clone)
    assert (clone / ".env").stat().st_mode & 0o777 == 0o600
    secret = read_values(clone / ".env")
    assert not [name for name in SECRETS if secret[name] in done.stdout + done.stderr]
    assert "grep ADMIN_PASSWORD .env" in done.stdout


def test_what_is_there_is_left_alone(clone: Path) -> None:
    (clone / ".env").write_text("APP_ENV=development\n")
    done = make_env(clone)
    assert (done.returncode, (clone / ".env").read_text()) == (1, "APP_ENV=development\n")
    assert "left as it is" in done.stderr


def test_a_mode_that_there_is_none_of_is_refused(clone: Path) -> None:
    done = make_env(clone, APP_ENV="foo")
    told = "APP_ENV is development or production, not foo; no .env was written.\n"
    assert (done.returncode, done.stderr) == (1, told)
    assert not (clone / ".env").exists()


def test_for_production_the_limits_are_on(clone: Path) -> None:
    assert make_env(clone, APP_ENV="production").returncode == 0
    made = read_values(clone / ".env")
    assert made["APP_ENV"] == "production"
    limits = {name: int(value) for name, value in made.items() if "LIMIT_" in name}
    assert len(limits) >= 10
    assert min(limits.values()) > 0
    check_settings(made | {"SMTP_HOST": "mail.example"})


def test_two_files_have_no_secret_in_common(clone: Path) -> None:
    make_env(clone)
    first = read_values(clone / ".env")
    (clone / ".env").unlink()
    make_env(clone)
    second = read_values(clone / ".env")
    assert not [name for name in SECRETS if first[name] == second[name]]
