"""Data and logs lie in the clone, or elsewhere with links to them where the servers' users can't get in."""

import os
from pathlib import Path

import pytest

from deploy.local import layout as layouts
from deploy.local.errors import SetupError
from deploy.local.layout import Layout

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root starts servers as other users")


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """Return the layout of a folder that only root can enter."""
    root = tmp_path / "clone"
    root.mkdir(mode=0o700)
    monkeypatch.setattr(layouts, "ELSEWHERE", tmp_path / "elsewhere")
    return Layout(root, root)


@needs_root
def test_a_closed_folder_keeps_links_and_its_permissions(closed: Layout) -> None:
    (closed.root / "data/postgres").mkdir(parents=True)
    (closed.data / "postgres").mkdir(parents=True)
    closed.prepare()
    assert closed.state != closed.root
    assert (closed.root / "data/postgres").readlink() == closed.data / "postgres"
    assert (closed.root / "data/.mode").read_text() == "plain\n"
    assert not (closed.root / "data/.mode").is_symlink()
    assert closed.root.stat().st_mode & 0o777 == 0o700


@needs_root
def test_data_in_a_folder_that_was_closed_later_is_not_passed_over(closed: Layout) -> None:
    (closed.root / "data/postgres").mkdir(parents=True)
    (closed.root / "data/postgres/PG_VERSION").write_text("15")
    (closed.data / "postgres").mkdir(parents=True)
    with pytest.raises(SetupError, match="chmod"):
        closed.prepare()


@needs_root
def test_a_certificate_that_lies_in_a_closed_folder_is_used(closed: Layout) -> None:
    (closed.root / "data/tls").mkdir(parents=True)
    (closed.root / "data/tls/cert.pem").write_text("the certificate")
    closed.prepare()
    assert (closed.data / "tls/cert.pem").read_text() == "the certificate"
    assert (closed.root / "data/tls").readlink() == closed.data / "tls"


@needs_root
def test_forgetting_deletes_both_sides(closed: Layout) -> None:
    closed.prepare()
    (closed.logs / "nginx").mkdir()
    closed.link()
    closed.delete()
    assert not (closed.root / "data").exists()
    assert not (closed.root / "logs").exists()
    assert not closed.data.exists()


def test_an_open_folder_holds_its_own_data() -> None:
    from deploy.local.trial import scratch_folder

    with scratch_folder("test-layout") as folder:
        layout = Layout(folder, folder)
        layout.prepare()
        assert layout.data == folder / "data"
        assert layout.sockets == folder / "data/run"


@pytest.mark.skipif(os.geteuid() == 0, reason="root's sockets are never in /tmp")
def test_a_folder_of_somebody_else_in_tmp_is_refused(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 80)
    layout = Layout(deep, deep)
    deep.mkdir()
    layout.sockets.symlink_to(tmp_path)
    try:
        with pytest.raises(SetupError, match="somebody else"):
            layout.prepare()
    finally:
        layout.sockets.unlink()


def test_sockets_of_a_deep_folder_lie_where_their_paths_are_short(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 80)
    assert len(str(Layout(deep, deep).sockets / "postgres/.s.PGSQL.65535.lock")) < 107


@pytest.mark.parametrize("name", ["with space", "per%cent", "quo'te"])
def test_a_path_that_configurations_could_not_hold_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    with pytest.raises(SetupError, match="plain path"):
        Layout(folder, folder).prepare()


def test_a_full_disk_is_said_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "SPACE_NEEDED", 10**18)
    monkeypatch.setattr(layouts, "ELSEWHERE", tmp_path / "elsewhere")
    with pytest.raises(SetupError, match="disk"):
        Layout(tmp_path, tmp_path).prepare()
