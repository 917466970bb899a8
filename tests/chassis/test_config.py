"""Production refuses secrets that everybody can read."""

import pytest

from chassis.config import ExampleSecret, ServiceSettings


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
