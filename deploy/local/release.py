"""The services' code: copied before a start, as an image would be built.

So the processes run what `make up` found, not what is being edited meanwhile, and their user can read it
wherever the clone lies and whatever the caller's umask was.
"""

import hashlib
import shutil
from pathlib import Path

FOLDERS = ("chassis", "user-service", "product-service", "order-service", "notification-service", "nginx")
FILES = ("deploy/local/mailcatcher.py",)
IGNORED = shutil.ignore_patterns("__pycache__", "*.egg-info", "tests")


def copy_code(source: Path, target: Path) -> Path:
    """Copy the code to a folder named after its content, delete older ones, and return it."""
    wanted = [path for name in (*FOLDERS, *FILES) if (path := source / name).exists()]
    release = target / _fingerprint(source, wanted)
    if not release.exists():
        draft = target / "draft"
        shutil.rmtree(draft, ignore_errors=True)
        for path in wanted:
            _copy(path, draft / path.relative_to(source))
        _open(draft)
        draft.rename(release)
    return release


def delete_others(release: Path) -> None:
    """Delete the copies that no process runs any more."""
    for other in release.parent.iterdir():
        if other != release:
            shutil.rmtree(other)


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, target, ignore=IGNORED)
    else:
        shutil.copy(path, target)


def _open(folder: Path) -> None:
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _fingerprint(source: Path, wanted: list[Path]) -> str:
    digest = hashlib.sha256()
    for top in wanted:
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(str(path.relative_to(source)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]
