"""What a start refuses before anything runs, with Docker and without; needs the standard library alone."""

from collections.abc import Iterable, Mapping
from pathlib import Path

# No service receives these two, so nobody else would notice the values of .env.example.
ADMINISTRATION = ("POSTGRES_PASSWORD", "RABBITMQ_DEFAULT_PASS")
# All that the suite can't do without.
SECRETS = (
    *ADMINISTRATION,
    *(f"{service}_DB_PASSWORD" for service in ("USER", "PRODUCT", "ORDER", "NOTIFICATION")),
    *(f"{service}_AMQP_PASSWORD" for service in ("USER", "PRODUCT", "ORDER", "NOTIFICATION")),
    "REDIS_PASSWORD",
    "ADMIN_PASSWORD",
    "KEY_ENCRYPTION_SECRET",
    "ORDER_PRODUCT_KEY",
    "ORDER_USER_KEY",
    "ORDER_NOTIFICATION_KEY",
    "NOTIFICATION_USER_KEY",
    "PAYMENT_SANDBOX_WEBHOOK_SECRET",
)
# Of providers that a shop may have, and one that is made when it is missing.
OPTIONAL = (
    "PAYMENT_HTTP_KEY",
    "PAYMENT_HTTP_WEBHOOK_SECRET",
    "SMTP_PASSWORD",
    "ALIYUN_ACCESS_KEY_SECRET",
    "VAPID_PRIVATE_KEY",
)
# Published in .env.example, so worthless as secrets; all others there end in the suffix.
EXAMPLES = ("", "rabbitmq123", "admin123456")
SUFFIX = "-change-me"
MAIL_CATCHER = "maildev"


class Refused(Exception):
    """The suite must not start like this; the text says why in one sentence."""


def check_settings(settings: Mapping[str, str], secrets: Iterable[str] = SECRETS) -> None:
    """Refuse a production start on published passwords or without a mail server."""
    check_secrets(settings, secrets)
    if settings.get("APP_ENV") == "production" and settings.get("SMTP_HOST", "") in ("", MAIL_CATCHER):
        raise Refused("APP_ENV=production, but SMTP_HOST in .env names no mail server: set it.")


def check_secrets(settings: Mapping[str, str], names: Iterable[str]) -> None:
    """Refuse a production start on a secret that is missing or published, naming it."""
    if settings.get("APP_ENV") != "production":
        return
    for name in names:
        secret = settings.get(name, "")
        if secret in EXAMPLES or secret.endswith(SUFFIX):
            raise Refused(
                f"APP_ENV=production, but {name} in .env is missing or still the example's: choose another."
            )


def read_files(settings: Mapping[str, str], names: Iterable[str] = (*SECRETS, *OPTIONAL)) -> dict[str, str]:
    """Return what the files hold that `NAME_FILE` settings name, as NAME, without the last line break."""
    found = {}
    for name in names:
        variable = f"{name}_FILE"
        if not (path := settings.get(variable)):
            continue
        if settings.get(name):
            raise Refused(f"Both {name} and {variable} are set: leave one of them out.")
        try:
            found[name] = Path(path).read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
        except (OSError, UnicodeDecodeError):
            raise Refused(f"{variable} names a file that can't be read: {path}.") from None
    return found
