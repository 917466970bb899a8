"""Which system user runs what: one per server when started by root, else always the caller's own."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.errors import SetupError

SERVICES = "ecommerce"


@dataclass(frozen=True)
class Account:
    """Name a system user by what the kernel and the supervisor need."""

    name: str
    uid: int
    gid: int


def caller() -> Account:
    """Return the user that runs this process."""
    entry = pwd.getpwuid(os.geteuid())
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def account(name: str) -> Account:
    """Return the user `name` when called by root, else the caller."""
    if os.geteuid() != 0:
        return caller()
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise SetupError(f"The system user {name} is missing; run scripts/packages.sh.") from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def create_services_account() -> None:
    """Make the user of the four services when root starts them for the first time."""
    if os.geteuid() != 0:
        return
    try:
        pwd.getpwnam(SERVICES)
    except KeyError:
        useradd = shutil.which("useradd", path="/usr/sbin:/sbin") or "useradd"
        command = [useradd, "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
        subprocess.run([*command, "--shell", "/usr/sbin/nologin", SERVICES], check=True)


def own(folder: Path, owner: Account, mode: int = 0o700) -> Path:
    """Make `folder` for `owner` alone; hand over what an earlier owner left in it."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0 and folder.stat().st_uid != owner.uid:
        _hand_over(folder, owner)
    if folder.stat().st_uid == os.geteuid() or os.geteuid() == 0:
        folder.chmod(mode)
    return folder


def _hand_over(folder: Path, owner: Account) -> None:
    os.chown(folder, owner.uid, owner.gid)
    for parent, folders, files in os.walk(folder):
        for name in folders + files:
            os.chown(Path(parent, name), owner.uid, owner.gid, follow_symlinks=False)


def write_for(owner: Account, path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file that `owner` alone can read; it appears whole or not at all."""
    draft = path.with_name(path.name + ".new")
    draft.write_text(text)
    draft.chmod(mode)
    if os.geteuid() == 0:
        os.chown(draft, owner.uid, owner.gid)
    draft.replace(path)


def identity(owner: Account) -> dict[str, Any]:
    """Return what makes a child process run as `owner`; only root may choose."""
    return {"user": owner.uid, "group": owner.gid, "extra_groups": []} if os.geteuid() == 0 else {}


def become(owner: Account) -> None:
    """Turn this process into one of `owner`; only root may choose."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(owner.gid)
        os.setuid(owner.uid)


def run_as(
    owner: Account,
    command: Sequence[str],
    *,
    cwd: Path | str | None = None,
    env: Mapping[str, str] | None = None,
    typed: str | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Run `command` to its end as `owner`, `typed` on its standard input; return its output as text."""
    return subprocess.run(
        command, cwd=cwd, env=env, input=typed, text=True, capture_output=True, check=False, **identity(owner)
    )


def may_enter(folder: Path, owner: Account) -> bool:
    """Tell whether `owner` can reach what lies in `folder`."""
    return run_as(owner, ["/usr/bin/test", "-x", str(folder)], cwd="/").returncode == 0
