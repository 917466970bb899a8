"""What the notification service reads from its environment."""

from email.utils import parseaddr
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, SecretStr, field_validator

from chassis.config import ServiceSettings


class Settings(ServiceSettings):
    """The settings of the service, its worker and its Celery worker."""

    service: ClassVar[str] = "notification-service"

    notification_user_key: SecretStr
    # The order service signs its calls with this key.
    order_notification_key: SecretStr

    smtp_host: str = "127.0.0.1"
    smtp_port: int = Field(default=25, ge=1, le=65535)
    smtp_user: str = ""
    # May be empty in production too (a relay that trusts its network), hence no SecretStr.
    smtp_password: str = Field(default="", repr=False)
    smtp_tls: Literal["none", "starttls", "ssl"] = "none"
    mail_from: str = "shop@example.com"

    sms_provider: Literal["development", "aliyun"] = "development"
    sms_dir: Path = Path("data/sms")
    aliyun_access_key_id: str = ""
    aliyun_access_key_secret: str = Field(default="", repr=False)
    aliyun_sms_sign_name: str = ""
    aliyun_sms_template_code: str = ""

    # Empty: made at first start and kept in the database.
    vapid_private_key: str = Field(default="", repr=False)
    vapid_subject: str = ""
    # For tests alone: push services on this machine, without TLS.
    push_allow_private: bool = False

    # How long a claim counts, and how long a dispatched task is waited for.
    claim_seconds: float = Field(default=45, gt=0)
    dispatch_seconds: float = Field(default=45, gt=0)
    sweep_seconds: float = Field(default=0.5, gt=0)

    @field_validator("mail_from")
    @classmethod
    def has_an_address(cls, value: str) -> str:
        """Accept `shop@example.com`, and a name around it where the environment may hold spaces."""
        if "@" not in parseaddr(value)[1] or not value.isprintable():
            raise ValueError("must be an e-mail address, such as shop@example.com")
        return value

    @property
    def mail_domain(self) -> str:
        """Return the domain that mails come from."""
        return parseaddr(self.mail_from)[1].rpartition("@")[2]
