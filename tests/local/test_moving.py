"""What a move between the modes does and says, step by step; the suite itself is only pretended."""

import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PARTS = ("manifest", "sums", "user.dump", "product.dump", "order.dump", "notification.dump")
MANIFEST = b"format=1\n"
# It fails at the step that FAILS names.
PRETENDED_SUITE = """\
#!/bin/bash
line="${MODE:-} $*"
case "$*" in
    *backup.sh*) line="back up"; cat "$FOLDER/written.tar" ;;
    *fingerprint*) line="fingerprint"; echo a-fingerprint ;;
esac
echo "$line" >>"$FOLDER/asked"
[ "$line" != "${FAILS:-}" ]
"""
MOVE = """\
set -euo pipefail
cd "$FOLDER"
root=$FOLDER mode=docker TO=plain
die() { echo "$*" >&2; exit 1; }
compose() { echo "compose $1" >>"$FOLDER/asked"; }
mode_of_data() { echo "$MADE"; }
. "$BACKUPS"
move
"""

Move = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return the folder of a shop, whose name has a space."""
    folder = tmp_path / "a shop"
    for name in ("scripts", "deploy/setup", "data/tls", "data/postgres"):
        (folder / name).mkdir(parents=True)
    (folder / "data/tls/cert.pem").write_text("the certificate")
    (folder / "deploy/setup/backup.sh").touch()
    (folder / "scripts/suite.sh").write_text(PRETENDED_SUITE)
    (folder / "scripts/suite.sh").chmod(0o755)
    with tarfile.open(folder / "written.tar", "w") as tar:
        for name in PARTS:
            part = tarfile.TarInfo(name)
            part.size = len(MANIFEST)
            tar.addfile(part, io.BytesIO(MANIFEST))
    return folder


@pytest.fixture
def move(shop: Path) -> Move:
    """Return the command; `fails` is the step that does not succeed, `made` the mode of the data."""

    def run(fails: str = "", made: str = "docker") -> "subprocess.CompletedProcess[str]":
        where = {"PATH": os.environ["PATH"], "FOLDER": str(shop), "FAILS": fails, "MADE": made}
        where["BACKUPS"] = str(REPOSITORY / "scripts/backups.sh")
        return subprocess.run(
            ["bash", "-c", MOVE], env=where, capture_output=True, text=True, check=False, timeout=60
        )

    return run


def asked(shop: Path) -> list[str]:
    return [line.strip() for line in (shop / "asked").read_text().splitlines()]


def test_the_services_stop_before_the_backup_that_is_restored_in_the_other_mode(shop: Path, move: Move):
    moved = move()
    assert moved.returncode == 0, moved.stderr
    [archive] = (shop / "backups").iterdir()
    steps = ["up", "fingerprint", "compose stop", "back up", "down", "plain up", f"plain restore {archive}"]
    assert asked(shop) == steps
    [aside] = shop.glob("data.docker-*")
    assert (aside / "postgres").is_dir()
    assert [path.name for path in (shop / "data").iterdir()] == ["tls"]
    assert (shop / "data/tls/cert.pem").read_text() == "the certificate"
    assert moved.stdout.splitlines()[-1].startswith("The shop has moved to plain mode; its old data is in ")


def test_without_a_backup_the_services_start_again(shop: Path, move: Move):
    moved = move(fails="back up")
    assert moved.returncode == 1
    last = "Nothing was moved; the suite runs as before."
    assert moved.stderr.splitlines() == ["No backup was made.", last]
    assert asked(shop)[-3:] == ["compose stop", "back up", "up"]
    assert (shop / "data/postgres").is_dir()


def test_where_the_other_mode_does_not_start_it_is_said_how_to_go_back(shop: Path, move: Move):
    moved = move(fails="plain up")
    assert moved.returncode == 1
    [archive], [aside] = (shop / "backups").iterdir(), shop.glob("data.docker-*")
    told = f"The move did not succeed. The shop is in {archive}, and as it was in {aside}:"
    assert moved.stderr.startswith(told)
    assert (aside / "postgres").is_dir()


def test_where_nothing_was_ever_started_nothing_starts(shop: Path, move: Move):
    moved = move(made="")
    told = "There is no shop here to move: make up MODE=plain starts a new one.\n"
    assert (moved.returncode, moved.stderr) == (1, told)
    assert not (shop / "asked").exists()
