"""Log lines stay whole, small and in the file's newest name."""

import json
import logging
from pathlib import Path

import pytest

from chassis import logs
from chassis.config import ServiceSettings


class Settings(ServiceSettings):
    service = "sample-service"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(db_name="x", db_user="x", db_password="x", log_dir=tmp_path)


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "app.log").read_text().splitlines()]


def test_a_line_is_one_json_object_with_its_facts(settings: Settings, tmp_path: Path) -> None:
    logs.configure_logs(settings)
    logs.get_logger("x").info("order placed", order="o\r\n{fake", amount=1)
    (line,) = lines(tmp_path)
    assert line["event"] == "order placed"
    assert line["order"] == "o\r\n{fake"
    assert line["service"] == "sample-service"
    assert {"time", "level", "process"} <= line.keys()


def test_the_standard_library_logs_alike(settings: Settings, tmp_path: Path) -> None:
    logs.configure_logs(settings)
    logging.getLogger("some.library").warning("careful: %s", "x")
    (line,) = lines(tmp_path)
    assert line["event"] == "careful: x"


def test_a_long_line_is_cut_and_stays_json(settings: Settings, tmp_path: Path) -> None:
    logs.configure_logs(settings)
    logs.get_logger("x").info("long", text="长" * 5000, many=["y" * 100] * 100)
    raw = (tmp_path / "app.log").read_bytes()
    assert len(raw) <= logs.MAX_LINE
    assert json.loads(raw)


def test_a_full_file_is_renamed_and_writing_goes_on(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "MAX_FILE", 10)
    logs.configure_logs(settings)
    log = logs.get_logger("x")
    for number in range(7):
        log.info("line", number=number)
        logs.rotate_logs(settings)
    log.info("line", number=7)
    assert [line["number"] for line in lines(tmp_path)] == [7]
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["app.log", "app.log.1", "app.log.2", "app.log.3", "app.log.4"]
    assert json.loads((tmp_path / "app.log.1").read_text())["number"] == 6
