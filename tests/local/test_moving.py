"""What a move between the modes does and says, step by step; the suite itself is only pretended."""

import io
import os
import signal
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PARTS = ("manifest", "sums", "user.dump", "product.dump", "order.dump", "notification.dump")
MANIFEST = b"format=1\nkey=a-fingerprint\n"
# It fails at the step that FAILS names; at the one that BREAKS names somebody breaks the command off.
# With RESTORE the restore is the real one.
PRETENDED_SUITE = """\
#!/bin/bash
line="${MODE:+$MODE }$*"
case "$*" in
    *backup.sh*) line="back up"; cat "$FOLDER/written.tar" ;;
    *fingerprint*) line="fingerprint"; echo a-fingerprint ;;
    *consumers*) line="consumers"; echo "order.events order.paid" ;;
    *"restore.sh restore"*) line="bring in"; echo 0 ;;
    *reconcile*) line="reconcile"; [ "$BREAKS" != reconcile ] || echo "Traceback" >&2; echo "drift 0" ;;
    *"restore.sh check"*) line="check" ;;
    *unsent*) line="unsent"; echo 0 ;;
esac
echo "$line" >>"$FOLDER/asked"
[ "${line%% /*}" != "${BREAKS:-}" ] || kill -INT 0
[ "${line%% /*}" != "${FAILS:-}" ] || exit 1
[ "$1" != restore ] || [ -z "$RESTORE" ] || exec bash -c "$RESTORE" bash "$@"
"""
MOVE = """\
set -euo pipefail
cd "$FOLDER"
root=$FOLDER mode=${MADE:-docker}
if [ "$mode" = docker ]; then TO=plain; else TO=docker; fi
die() { echo "$*" >&2; exit 1; }
compose() { echo "compose $1" >>"$FOLDER/asked"; [ "compose $1" != "$BREAKS" ] || kill -INT 0; }
# Most services take longer to stop than the one at which somebody breaks it off.
plain() {
    if [ "$2" = user-service ]; then sleep 0.2; [ "$BREAKS" != "plain stop" ] || kill -INT 0; else sleep 1; fi
    echo "stopped $2" >&2
}
engine_answers() { true; }
mode_of_data() { echo "$MADE"; }
# A mount point is one that can't be moved.
mv() {
    [ "$1" != "$MOUNTED" ] || { echo "mv: $1: busy" >&2; return 1; }
    command mv "$@"
}
. "$BACKUPS"
"$@"
"""

Move = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return the folder of a shop, whose name has a space."""
    folder = tmp_path / "a shop"
    for name in ("scripts", "deploy/setup", "data/tls", "data/postgres"):
        (folder / name).mkdir(parents=True)
    (folder / "data/tls/cert.pem").write_text("the certificate")
    for name in ("backup.sh", "restore.sh"):
        (folder / "deploy/setup" / name).touch()
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
    """Return the command, or another; `fails` and `breaks` name a step, `made` is the mode of the data.

    `mounted` is a folder that can't be moved, and `whole` means that a move's restore is not pretended.
    """

    def run(
        *command: str,
        fails: str = "",
        made: str = "docker",
        breaks: str = "",
        mounted: str = "",
        whole: bool = False,
    ) -> "subprocess.CompletedProcess[str]":
        where = {"PATH": os.environ["PATH"], "FOLDER": str(shop), "MADE": made, "MOUNTED": mounted}
        where |= {"FAILS": fails, "BREAKS": breaks, "BACKUPS": str(REPOSITORY / "scripts/backups.sh")}
        where |= {"RESTORE": MOVE if whole else "", "WAIT_SECONDS": "0"}
        # In a session of its own, as from a terminal: Ctrl-C reaches the command and what it runs at once.
        return subprocess.run(
            ["bash", "-c", MOVE, "bash", *(command or ("move",))],
            env=where,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            start_new_session=True,
            # Whoever runs the tests in the background ignores it, and so would the command.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
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


@pytest.mark.parametrize("step", ["up", "fingerprint", "compose stop", "back up", "down"])
def test_broken_off_before_the_data_is_put_aside_it_leaves_the_shop(shop: Path, move: Move, step: str):
    moved = move(breaks=step)
    assert moved.returncode != 0
    assert moved.stderr.splitlines()[-1] == "Nothing was moved; make up starts the shop again."
    assert asked(shop)[-1] == step
    assert (shop / "data/postgres").is_dir()
    assert not list(shop.glob("data.*"))


@pytest.fixture(params=["plain up", "plain restore"])
def gone_wrong(request: pytest.FixtureRequest) -> str:
    """Return a step that comes after the old data is put aside."""
    return str(request.param)


def go_back(shop: Path, told: str) -> None:
    """Do what the message says, apart from stopping and starting the suite."""
    [first, *lines] = told.splitlines()
    assert first.startswith("The move did not succeed. The shop as it was before is in ")
    assert (lines[0], lines[-1]) == ("  make down", "  make up")
    for line in lines[1:-1]:
        assert line.startswith("  mv ")
        subprocess.run(["bash", "-c", line], check=True, cwd="/")


@pytest.mark.parametrize("how", ["fails", "breaks"])
def test_where_the_other_mode_does_not_come_about_it_is_said_how_to_go_back(
    shop: Path, move: Move, gone_wrong: str, how: str
):
    (shop / "data/postgres/kept").touch()
    moved = move(**{how: gone_wrong})
    assert moved.returncode != 0
    [archive], [aside] = (shop / "backups").iterdir(), shop.glob("data.docker-*")
    assert str(archive) in moved.stderr
    assert (aside / "postgres").is_dir()
    go_back(shop, moved.stderr)
    assert (shop / "data/postgres/kept").exists()
    assert not aside.exists()


@pytest.fixture
def elsewhere(shop: Path) -> Path:
    """Let the shop's data lie elsewhere, as the launcher does in a clone that is closed to others."""
    folder = shop / "elsewhere/data"
    (folder / "run").mkdir(parents=True)
    for name in ("postgres", "tls"):
        (shop / "data" / name).rename(folder / name)
    for name in ("run", "postgres", "tls"):
        (shop / "data" / name).symlink_to(folder / name)
    (folder / "postgres/kept").touch()
    return folder


def test_the_way_back_leads_to_data_that_lies_elsewhere(
    shop: Path, elsewhere: Path, move: Move, gone_wrong: str
):
    moved = move(fails=gone_wrong)
    assert not elsewhere.exists()
    # The certificate comes along from there too.
    assert (shop / "data/tls/cert.pem").read_text() == "the certificate"
    go_back(shop, moved.stderr)
    assert (shop / "data/postgres/kept").exists()


@pytest.mark.parametrize("is_relative", [True, False])
def test_an_operator_s_own_link_moves_nothing_that_it_leads_to(shop: Path, move: Move, is_relative: bool):
    own = shop / "letsencrypt/live/shop.example"
    own.parent.mkdir(parents=True)
    (shop / "data/tls").rename(own)
    (shop / "data/tls").symlink_to("../letsencrypt/live/shop.example" if is_relative else own)
    moved = move()
    assert moved.returncode == 0, moved.stderr
    assert (own / "cert.pem").exists()
    assert (shop / "data/tls/cert.pem").read_text() == "the certificate"


@pytest.mark.parametrize("mounted", ["data", "elsewhere/data"])
def test_data_that_can_not_be_put_aside_is_left_whole(shop: Path, elsewhere: Path, move: Move, mounted: str):
    moved = move(mounted=str(shop / mounted))
    assert moved.returncode != 0
    assert moved.stderr.splitlines()[-1] == "Nothing was moved; make up starts the shop again."
    assert asked(shop)[-1] == "down"
    assert (elsewhere / "postgres/kept").exists()
    assert (shop / "data/postgres/kept").exists()
    assert not [*shop.glob("data.*"), *elsewhere.parent.glob("data.*")]


def test_broken_off_while_the_services_stop_it_speaks_when_they_have_stopped(shop: Path, move: Move):
    moved = move(made="plain", breaks="plain stop")
    assert moved.returncode != 0
    lines = moved.stderr.splitlines()
    assert lines[-1] == "Nothing was moved; make up starts the shop again."
    assert len([line for line in lines if line.startswith("stopped ")]) == 9


@pytest.mark.parametrize("how", ["fails", "breaks"])
@pytest.mark.parametrize("step", ["bring in", "reconcile"])
def test_a_restore_within_a_move_leaves_the_last_word_to_it(shop: Path, move: Move, step: str, how: str):
    (shop / "data/postgres/kept").touch()
    moved = move(**{how: step}, whole=True)
    assert moved.returncode != 0
    assert step in asked(shop)
    told = "The move did not succeed. The shop as it was before is in "
    reasons, found, way_back = moved.stderr.partition(told)
    books = "The shop is restored, but its books don't agree: see docs/operations.md.\n"
    expected = {"bring in": "Nothing was restored.\n", "reconcile": books}
    assert reasons == (expected[step] if how == "fails" else "")
    go_back(shop, found + way_back)
    assert (shop / "data/postgres/kept").exists()


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ("up", "Nothing was restored; the suite may be half up: "),
        ("fingerprint", "Nothing was restored; the suite may be half up: "),
        ("check", "Nothing was restored; the suite may be half up: "),
        (
            "compose stop",
            "The restore was broken off: make up starts the services again, then run it again; ",
        ),
        ("bring in", "The restore was broken off: make up starts the services again, then run it again; "),
        ("reconcile", "The shop is restored, but what follows was broken off: make up, "),
    ],
)
def test_a_restore_that_is_broken_off_says_what_is_left(shop: Path, move: Move, step: str, told: str):
    restored = move("restore", "written.tar", breaks=step)
    assert restored.returncode != 0
    assert len(restored.stderr.splitlines()) == 1, restored.stderr
    line = restored.stderr
    assert line.startswith(told)
    assert asked(shop)[-1] == step


def test_a_suite_that_is_not_empty_is_refused_before_anything_is_restored(shop: Path, move: Move):
    refused = move("restore", "written.tar", fails="check")
    assert (refused.returncode, refused.stderr) == (1, "")
    assert refused.stdout == "starting the suite, if it does not run yet\n"
    assert asked(shop)[-1] == "check"


def test_a_restore_that_ends_well_says_nothing_of_that(shop: Path, move: Move):
    restored = move("restore", "written.tar")
    assert (restored.returncode, restored.stderr) == (0, "")
    assert restored.stdout.splitlines()[-1] == "drift 0"


def test_where_nothing_was_ever_started_nothing_starts(shop: Path, move: Move):
    moved = move(made="")
    told = "There is no shop here to move: make up MODE=plain starts a new one.\n"
    assert (moved.returncode, moved.stderr) == (1, told)
    assert not (shop / "asked").exists()
