"""Production refuses secrets that everybody can read."""

import importlib
from pathlib import Path

import pytest
from pydantic import SecretStr

from chassis.config import BadSetting, ExampleSecret, ServiceSettings
from tests.apps import SERVICES


class Settings(ServiceSettings):
    service = "sample-service"


def settings(**values: str) -> Settings:
    return Settings(**{"db_name": "x", "db_user": "x", "db_password": "x"} | values)


@pytest.mark.parametrize("secret", ["", "user-db-change-me", "rabbitmq123"])
def test_production_refuses_an_example_secret_and_names_it(secret: str) -> None:
    with pytest.raises(ExampleSecret, match="DB_PASSWORD"):
        settings(app_env="production", db_password=secret)


def test_development_takes_the_example_secrets() -> None:
    assert settings(db_password="user-db-change-me").app_env == "development"


def test_a_password_never_shows_in_a_printed_setting() -> None:
    assert "hunter2" not in repr(settings(db_password="hunter2"))


def test_a_password_with_any_character_makes_a_right_url() -> None:
    url = settings(db_password="p@ss/w:rd%").database_url
    assert url.password == "p@ss/w:rd%"


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    """Return a file as an editor leaves it."""
    path = tmp_path / "db_password"
    path.write_text("from a file\n")
    return path


def test_a_secret_may_come_in_a_file(monkeypatch: pytest.MonkeyPatch, secret_file: Path) -> None:
    monkeypatch.setenv("DB_PASSWORD_FILE", str(secret_file))
    # What a launcher sets to nothing counts as not set.
    monkeypatch.setenv("DB_PASSWORD", "")
    read = Settings(db_name="x", db_user="x")
    assert read.db_password.get_secret_value() == "from a file"


def test_a_secret_and_its_file_are_refused_together(
    monkeypatch: pytest.MonkeyPatch, secret_file: Path
) -> None:
    monkeypatch.setenv("DB_PASSWORD_FILE", str(secret_file))
    monkeypatch.setenv("DB_PASSWORD", "hunter2")
    with pytest.raises(BadSetting, match="Both DB_PASSWORD and DB_PASSWORD_FILE are set") as refusal:
        Settings(db_name="x", db_user="x")
    assert "hunter2" not in str(refusal.value)


def test_a_file_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DB_PASSWORD_FILE", str(tmp_path / "nothing"))
    with pytest.raises(BadSetting, match=r"DB_PASSWORD_FILE names a file .*/nothing"):
        Settings(db_name="x", db_user="x")


def test_an_example_in_a_file_is_refused_too(monkeypatch: pytest.MonkeyPatch, secret_file: Path) -> None:
    secret_file.write_text("user-db-change-me\n")
    monkeypatch.setenv("DB_PASSWORD_FILE", str(secret_file))
    with pytest.raises(ExampleSecret, match="DB_PASSWORD"):
        Settings(db_name="x", db_user="x", app_env="production")


def test_a_bad_setting_is_named_without_what_any_setting_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "hunter2")
    monkeypatch.setenv("REDIS_PORT", "port-of-redis")
    with pytest.raises(BadSetting, match=r"DB_NAME: Field required.*REDIS_PORT") as refusal:
        Settings(db_user="x")
    assert "hunter2" not in str(refusal.value)
    assert "port-of-redis" not in str(refusal.value)


@pytest.mark.parametrize("package", SERVICES)
def test_every_secret_of_every_service_is_demanded_in_production(package: str) -> None:
    kind = importlib.import_module(f"{package}.config").Settings
    # Annotations are read through the fields: subclasses inherit them.
    secrets = [name for name, field in kind.model_fields.items() if field.annotation is SecretStr]
    assert {"db_password", "redis_password", "amqp_password"} < set(secrets)
    good = dict.fromkeys(secrets, "s" * 40) | {"db_name": "x", "db_user": "x", "app_env": "production"}
    kind(**good)
    for name in secrets:
        for value in ("", f"{name}-change-me"):
            with pytest.raises(BadSetting, match=name.upper()):
                kind(**good | {name: value})
