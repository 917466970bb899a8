"""The environment, read once and typed."""

import os
from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from click import ClickException
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from sqlalchemy import URL


class BadSetting(ClickException):
    """A setting that the process can't start with; commands say so in one sentence, without its value."""


class ExampleSecret(BadSetting):
    """A production start with a secret that is missing or published in `.env.example`."""


class ServiceSettings(BaseSettings):
    """What every service reads from its environment; a service adds its own fields."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)
    service: ClassVar[str]

    app_env: Literal["development", "production"] = "development"
    currency: str = "CNY"
    log_dir: Path | None = None

    db_host: str = "127.0.0.1"
    db_port: int = 5432
    db_name: str
    db_user: str
    db_password: SecretStr
    db_pool_size: int = 16

    redis_host: str = "127.0.0.1"
    redis_port: int = 6379
    redis_password: SecretStr = SecretStr("")

    amqp_host: str = "127.0.0.1"
    amqp_port: int = 5672
    amqp_user: str = ""
    amqp_password: SecretStr = SecretStr("")

    user_service_url: str = "http://127.0.0.1:5001"
    public_url: str = "http://localhost"

    limit_write_per_user: int = Field(default=0, ge=0)
    limit_read_per_address: int = Field(default=0, ge=0)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise BadSetting(_explain(error)) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[Any, ...]:
        """Read the environment, and the files that `NAME_FILE` names in it, but no `.env`."""
        return init_settings, lambda: read_files(os.environ, cls.model_fields), env_settings

    @cached_property
    def database_url(self) -> URL:
        """The service's own database, by psycopg2 (SQLAlchemy 2.1's default is another driver)."""
        return URL.create(
            "postgresql+psycopg2",
            self.db_user,
            self.db_password.get_secret_value(),
            self.db_host,
            self.db_port,
            self.db_name,
        )

    def model_post_init(self, context: Any) -> None:
        """Refuse a production start on a missing or published secret, naming its variable."""
        if self.app_env != "production":
            return
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, SecretStr) and is_example(value.get_secret_value()):
                raise ExampleSecret(
                    f"APP_ENV=production, but {name.upper()} is missing or still the example's value."
                )


def _explain(error: ValidationError) -> str:
    """Say which variables are wrong and why, never what they hold."""
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    reasons = (f"{'_'.join(map(str, fault['loc'])).upper()}: {fault['msg']}" for fault in faults)
    return "The settings can't be used. " + "; ".join(reasons) + "."


def read_files(environment: Mapping[str, str], names: Collection[str]) -> dict[str, str]:
    """Return the content of each file that `NAME_FILE` names, without its last line break."""
    found = {}
    for name in names:
        variable = name.upper()
        path = environment.get(f"{variable}_FILE")
        if not path:
            continue
        if environment.get(variable):
            raise BadSetting(f"Both {variable} and {variable}_FILE are set: leave one of them out.")
        try:
            found[name] = Path(path).read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise BadSetting(f"{variable}_FILE names a file that can't be read: {path}.") from error
    return found


# Published in .env.example, so worthless as secrets; all others there end in the suffix.
EXAMPLE_SECRETS = frozenset({"", "rabbitmq123", "admin123456"})
EXAMPLE_SUFFIX = "-change-me"


def is_example(secret: str) -> bool:
    """Tell whether a secret is empty or one that `.env.example` publishes."""
    return secret in EXAMPLE_SECRETS or secret.endswith(EXAMPLE_SUFFIX)
