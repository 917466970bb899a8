"""Where everything lies.

`data/` and `logs/` belong to the root folder. When root starts the suite from a folder that other users
can't enter (0700), the servers' own users could not reach them there, so they lie under
/var/lib/ecommerce-basic and the root folder holds links. No permission of a folder above is ever changed.
"""

import hashlib
import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from deploy.local import accounts
from deploy.local.errors import SetupError

ELSEWHERE = Path("/var/lib/ecommerce-basic")
# PostgreSQL, the first start's packages and a day of logs need about this much.
SPACE_NEEDED = 1_000_000_000


def elsewhere(folder: Path) -> Path:
    """Return where the files of a folder lie that the servers' users can't enter."""
    return ELSEWHERE / hashlib.sha256(str(folder).encode()).hexdigest()[:12]


def is_open(folder: Path) -> bool:
    """Tell whether the servers' users can enter `folder`; when they are the caller, they can."""
    return os.geteuid() != 0 or accounts.may_enter(folder, accounts.account("nobody"))


@dataclass(frozen=True)
class Layout:
    """Name the folders of one suite: `source` is the clone, `root` gets `data/` and `logs/`."""

    source: Path
    root: Path

    @cached_property
    def state(self) -> Path:
        """Return the folder that really holds `data/` and `logs/`."""
        return self.root if is_open(self.root) else elsewhere(self.root)

    @property
    def data(self) -> Path:
        """Return the real data folder."""
        return self.state / "data"

    @property
    def logs(self) -> Path:
        """Return the real log folder."""
        return self.state / "logs"

    @property
    def run(self) -> Path:
        """Return the folder of what only lives as long as the processes do."""
        return self.data / "run"

    @property
    def sockets(self) -> Path:
        """Return a folder for Unix sockets: the kernel allows their paths 107 bytes."""
        if len(str(self.run)) < 70:
            return self.run
        if os.geteuid() == 0:
            return elsewhere(self.root) / "run"
        return Path("/tmp") / f"ecommerce-basic-{os.geteuid()}-{elsewhere(self.root).name}"

    def prepare(self) -> None:
        """Make the folders, and the links where they lie elsewhere."""
        for folder in (self.root, self.source):
            if any(character.isspace() or character in "%\"'$;" for character in str(folder)):
                raise SetupError(f"The path {folder} has a space or a special character; use a plain path.")
        for folder in (self.data, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        accounts.own(self.run, accounts.caller(), 0o711)
        self._make_sockets()
        if shutil.disk_usage(self.data).free < SPACE_NEEDED:
            raise SetupError(f"The disk of {self.data} has less than 1 GB left; free some space.")
        self._take_certificate()
        self.link()
        # A file, never a link: whoever comes with Docker must be able to read it.
        (self.root / "data").mkdir(exist_ok=True)
        (self.root / "data/.mode").write_text("plain\n")

    def _make_sockets(self) -> None:
        """Make the folder of the sockets; in /tmp somebody else may have been there first."""
        self.sockets.mkdir(mode=0o711, parents=True, exist_ok=True)
        if self.sockets.is_symlink() or self.sockets.stat().st_uid != os.geteuid():
            raise SetupError(f"{self.sockets} belongs to somebody else; have it removed.")

    def _take_certificate(self) -> None:
        """Take over the certificate of containers, whose servers could enter the root folder."""
        there, here = self.root / "data/tls", self.data / "tls"
        if there.is_dir() and not there.is_symlink() and not here.exists():
            shutil.move(there, here)

    def link(self) -> None:
        """Let the root folder lead to what lies elsewhere."""
        if self.state != self.root:
            self._link("data")
            self._link("logs")

    def _link(self, name: str) -> None:
        """Let root/data/X lead to the real data/X, for every X there is."""
        (self.root / name).mkdir(exist_ok=True)
        for entry in (self.state / name).iterdir():
            link = self.root / name / entry.name
            if link.is_dir() and not link.is_symlink():
                self._give_way(link)
            if not link.is_symlink():
                link.symlink_to(entry)

    def _give_way(self, folder: Path) -> None:
        if any(folder.iterdir()):
            raise SetupError(
                f"{folder} is closed to the servers' users; make {self.root} passable (chmod o+x)."
            )
        folder.rmdir()

    def folder(self, name: str, owner: accounts.Account, mode: int = 0o700) -> Path:
        """Make `data/NAME` for one server's user."""
        return accounts.own(self.data / name, owner, mode)

    def log_folder(self, name: str, owner: accounts.Account) -> Path:
        """Make `logs/NAME` for one server's user; everybody may read it."""
        return accounts.own(self.logs / name, owner, 0o755)

    def delete(self) -> None:
        """Delete data and logs wherever they lie."""
        folders = {parent / name for parent in (self.state, self.root) for name in ("data", "logs")}
        for folder in (*folders, self.sockets):
            if folder.exists():
                shutil.rmtree(folder)
