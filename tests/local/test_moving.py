"""What an operator sees of a move between the modes that can't succeed; the suite is only pretended."""

import os
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PRETENDED_SUITE = """\
#!/bin/bash
echo "$*" >>"$FOLDER/asked"
case "$*" in
    *fingerprint*) echo a-fingerprint ;;
    *backup.sh*) exit 1 ;;
esac
"""
MOVE = """\
set -euo pipefail
cd "$FOLDER"
root=$FOLDER mode=docker TO=plain
die() { echo "$*" >&2; exit 1; }
compose() { echo "compose $*" >>"$FOLDER/asked"; }
. "$BACKUPS"
move
"""


def test_a_move_without_a_backup_starts_the_services_again(tmp_path: Path):
    folder = tmp_path / "a shop"
    for name in ("scripts", "deploy/setup", "data"):
        (folder / name).mkdir(parents=True)
    (folder / "deploy/setup/backup.sh").touch()
    (folder / "scripts/suite.sh").write_text(PRETENDED_SUITE)
    (folder / "scripts/suite.sh").chmod(0o755)
    where = {
        "PATH": os.environ["PATH"],
        "FOLDER": str(folder),
        "BACKUPS": str(REPOSITORY / "scripts/backups.sh"),
    }
    moved = subprocess.run(
        ["bash", "-c", MOVE], env=where, capture_output=True, text=True, check=False, timeout=60
    )
    assert moved.returncode == 1
    assert moved.stderr.splitlines() == [
        "No backup was made.",
        "Nothing was moved; the suite runs as before.",
    ]
    asked = (folder / "asked").read_text().splitlines()
    stopped = next(n for n, line in enumerate(asked) if line.startswith("compose stop "))
    assert asked[-1] == "up"
    assert stopped < len(asked) - 1
    assert (folder / "data").is_dir()
