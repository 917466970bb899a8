"""A suite beside the one in use, for tests and measurements: in a folder of its own, on free ports."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from deploy.local.addresses import DEVELOPMENT, INTERNAL, PUBLIC
from deploy.local.ports import free_ports
from deploy.local.settings import read_values

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE = 400


@contextmanager
def scratch_folder(name: str) -> Iterator[Path]:
    """Yield a folder that a server's own user can pass through, also under a root whose TMPDIR is closed."""
    folder = Path(tempfile.mkdtemp(prefix=f"ecommerce-{name}-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def trial_folder(**changes: str) -> Iterator[tuple[Path, Mapping[str, str]]]:
    """Yield a folder for a suite and its settings: the example's with free ports and `changes`."""
    with scratch_folder("trial") as folder:
        names = [*PUBLIC, *INTERNAL, *DEVELOPMENT]
        ports = dict(zip(names, map(str, free_ports(len(names))), strict=True))
        settings = read_values(REPOSITORY / ".env.example") | ports | changes
        (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        try:
            yield folder, settings
        finally:
            run_command(folder, "forget")


def run_command(folder: Path, name: str) -> None:
    """Run a command of the launcher as an operator's shell does; show what it says when it fails."""
    line = [sys.executable, "-m", "deploy.local", "--root", str(folder), name]
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    done = subprocess.run(
        line, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{name}: {done.stderr or done.stdout}")
