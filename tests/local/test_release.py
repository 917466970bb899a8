"""The code that runs is a copy that everybody can read."""

from pathlib import Path

import pytest

from deploy.local import release


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "clone"
    (folder / "user-service/__pycache__").mkdir(parents=True, mode=0o700)
    (folder / "user-service/app.py").write_text("1")
    (folder / "user-service/app.py").chmod(0o600)
    (folder / "user-service/__pycache__/app.pyc").write_text("")
    (folder / "deploy/local").mkdir(parents=True)
    (folder / "deploy/local/mailcatcher.py").write_text("2")
    return folder


def test_a_copy_can_be_read_by_everybody(source: Path, tmp_path: Path) -> None:
    copy = release.copy_code(source, tmp_path / "code")
    assert (copy / "user-service/app.py").stat().st_mode & 0o777 == 0o644
    assert (copy / "user-service").stat().st_mode & 0o777 == 0o755
    assert (copy / "deploy/local/mailcatcher.py").read_text() == "2"
    assert not (copy / "user-service/__pycache__").exists()


def test_the_same_code_is_the_same_copy_and_other_code_another(source: Path, tmp_path: Path) -> None:
    first = release.copy_code(source, tmp_path / "code")
    assert release.copy_code(source, tmp_path / "code") == first
    (source / "user-service/app.py").write_text("changed")
    second = release.copy_code(source, tmp_path / "code")
    assert second != first
    release.delete_others(second)
    assert [entry.name for entry in (tmp_path / "code").iterdir()] == [second.name]
