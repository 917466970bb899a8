"""What a start refuses before anything runs, with Docker and without; needs the standard library alone."""

from collections.abc import Mapping

# No service receives these two, so nobody else would notice the values of .env.example.
ADMINISTRATION = ("POSTGRES_PASSWORD", "RABBITMQ_DEFAULT_PASS")
MAIL_CATCHER = "maildev"


class Refused(Exception):
    """The suite must not start like this; the text says why in one sentence."""


def check_settings(settings: Mapping[str, str]) -> None:
    """Refuse a production start on published passwords or without a mail server."""
    if settings.get("APP_ENV") != "production":
        return
    for name in ADMINISTRATION:
        secret = settings.get(name, "")
        if secret in ("", "rabbitmq123") or secret.endswith("-change-me"):
            raise Refused(f"APP_ENV=production, but {name} in .env is still the example's: choose another.")
    if settings.get("SMTP_HOST", "") in ("", MAIL_CATCHER):
        raise Refused("APP_ENV=production, but SMTP_HOST in .env names no mail server: set it.")
