"""The virtual environment: made when missing, filled when the pinned requirements changed.

python -m deploy.local.venv requirements-dev.txt        (prints where it is)
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from deploy.local import accounts
from deploy.local.errors import SetupError
from deploy.local.layout import elsewhere, is_open

OLDEST = (3, 11)
CANDIDATES = ("python3", "python3.13", "python3.12", "python3.11", "python3.14")
PROBE = f"import sys, ensurepip, venv; sys.exit(sys.version_info < {OLDEST})"


def ready_venv(source: Path, requirements: Path) -> Path:
    """Return a virtual environment that the services' user can run, with exactly these requirements in it."""
    folder = _choose(source)
    if not (folder / "bin/python").exists():
        _make(folder)
    _install(folder, requirements)
    if folder != source / ".venv" and not (source / ".venv").exists():
        (source / ".venv").symlink_to(folder)
    return folder


def _choose(source: Path) -> Path:
    """Return .venv in the clone, unless the services' user could not run it."""
    own = source / ".venv"
    usable = _runs(str(own / "bin/python"), "") if own.exists() else is_open(source)
    return own.resolve() if usable else elsewhere(source) / "venv"


def _runs(python: str, program: str = PROBE) -> bool:
    """Tell whether the services' user can run this Python."""
    try:
        return (
            accounts.run_as(accounts.account(accounts.SERVICES), [python, "-c", program], cwd="/").returncode
            == 0
        )
    except (PermissionError, FileNotFoundError):
        return False


def _make(folder: Path) -> None:
    found = (shutil.which(name, path="/usr/bin:/usr/local/bin") for name in CANDIDATES)
    pythons = [sys.executable, *(python for python in found if python)]
    python = next((python for python in pythons if _runs(python)), None)
    if python is None:
        raise SetupError("There is no Python 3.11 or later with venv for all users; install python3-venv.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    _run([python, "-m", "venv", "--clear", str(folder)], "make the virtual environment")


def _install(folder: Path, requirements: Path) -> None:
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    # One stamp a file, so that tests and processes may share the environment.
    stamp = folder / f".installed-{hashlib.sha256(str(requirements.name).encode()).hexdigest()[:8]}"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"Installing {requirements.name} into {folder} …", file=sys.stderr)
    pip = [str(folder / "bin/python"), "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    # The file names all that is needed. Resolving it once more would let pip before 23.3 take a newer release
    # of a package that another asks for with an extra (pip issue 9644), which has no hash here.
    _run([*pip, "--no-deps", "--require-hashes", "-r", str(requirements)], "install the Python packages")
    stamp.write_text(wanted)


def _run(command: list[str], purpose: str) -> None:
    environment = {**os.environ, "PIP_ROOT_USER_ACTION": "ignore"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr or done.stdout).strip()[-1500:]
        raise SetupError(f"Could not {purpose}: {reason}")


if __name__ == "__main__":
    os.umask(0o022)
    accounts.create_services_account()
    try:
        print(ready_venv(Path.cwd(), Path.cwd() / sys.argv[1]))
    except SetupError as error:
        sys.exit(str(error))
