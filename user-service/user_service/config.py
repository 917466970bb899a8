"""What the user service reads from its environment."""

from typing import ClassVar

from pydantic import Field, SecretStr

from chassis.config import ServiceSettings

# What `.env.example` gives the first administrator.
PUBLISHED_PASSWORD = "admin123456"


class Settings(ServiceSettings):
    """The settings of the user service."""

    service: ClassVar[str] = "user-service"

    # Encrypts the signing keys at rest.
    key_encryption_secret: SecretStr = Field(min_length=1)
    order_user_key: SecretStr = SecretStr("")
    notification_user_key: SecretStr = SecretStr("")

    # Who is made at the first start, when there is no administrator yet.
    admin_username: str = "admin"
    admin_email: str = "admin@example.com"
    admin_password: SecretStr = SecretStr("")

    # Failures in 15 minutes; requests in a minute. 0 is off.
    limit_login_per_account: int = Field(default=5, ge=0)
    limit_login_per_address: int = Field(default=0, ge=0)
    limit_register_per_address: int = Field(default=0, ge=0)
