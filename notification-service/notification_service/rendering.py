"""Texts of mails, text messages and push messages, in the recipient's language."""

import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parseaddr
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, UndefinedError

from notification_service.config import Settings
from notification_service.errors import PermanentFailure

FOLDER = Path(__file__).parent / "templates"
LOCALES = ("zh-CN", "en")
DEFAULT_LOCALE = "zh-CN"
SYMBOLS = {"CNY": "¥", "USD": "$", "EUR": "€", "GBP": "£", "JPY": "JP¥", "HKD": "HK$"}
ADDRESS_FIELDS = ("recipient", "phone", "province", "city", "district", "street", "postal_code")


@dataclass(frozen=True)
class Mail:
    """A rendered mail."""

    subject: str
    text: str
    html: str | None


@contextmanager
def _writing() -> Iterator[None]:
    """Turn what an event lacks into a `PermanentFailure`: it will lack it at every attempt.

    A template or a language that this release lacks is no such thing: during an update, the next
    attempt may be a newer one's.
    """
    try:
        yield
    except (UndefinedError, TypeError, ValueError, OverflowError) as error:
        reason = one_line(f"{type(error).__name__}: {error}")
        raise PermanentFailure(f"the message can't be written: {reason}") from error


def show_money(amount: str, currency: str) -> str:
    """Write an amount with its currency: `¥19.90`, `CHF 19.90`."""
    symbol = SYMBOLS.get(currency)
    return f"{symbol}{amount}" if symbol else f"{currency} {amount}"


def show_moment(value: str | None) -> str:
    """Write an RFC 3339 time for people."""
    if not value:
        return ""
    return datetime.fromisoformat(value).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def one_line(text: str) -> str:
    """Fold all white space, so that no value of an event can end a header's line."""
    return " ".join("".join(c if c.isprintable() or c.isspace() else " " for c in text).split())


class Texts:
    """Every message's texts; the templates are read once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._texts = {locale: self._load(locale) for locale in LOCALES}
        options: dict[str, Any] = {
            "loader": FileSystemLoader(FOLDER),
            "undefined": StrictUndefined,
            "trim_blocks": True,
            "lstrip_blocks": True,
        }
        # Texts are plain until mail.html lays them out, which escapes everything.
        self._plain = Environment(autoescape=False, **options)
        self._html = Environment(autoescape=True, **options)
        for environment in (self._plain, self._html):
            environment.filters |= {"money": show_money, "moment": show_moment}

    def _load(self, locale: str) -> dict[str, dict[str, Any]]:
        return tomllib.loads((FOLDER / f"texts.{locale}.toml").read_text(encoding="utf-8"))

    def subject(self, template: str, locale: str, data: Mapping[str, Any]) -> str:
        """Return what the history shows as the notification's subject."""
        return self._one(template, locale, "subject", self._facts(locale, data))

    def mail(self, template: str, locale: str, data: Mapping[str, Any], *, link: str = "") -> Mail:
        """Render a mail; `link` is where its button leads, if it has one."""
        facts = self._facts(locale, data, link)
        plain, html = self._plain.get_template("mail.txt"), self._html.get_template("mail.html")
        with _writing():
            layout = {**facts, **self._layout(template, locale, facts)}
            return Mail(layout["subject"], plain.render(layout), html.render(layout))

    def sms(self, template: str, locale: str, data: Mapping[str, Any]) -> str:
        """Render a text message."""
        facts = self._facts(locale, data)
        with _writing():
            return self._one(template, locale, "sms", facts)

    def push(self, template: str, locale: str, data: Mapping[str, Any]) -> tuple[str, str, str]:
        """Render a push message's title and body, and the id of the order that it leads to."""
        facts = self._facts(locale, data)
        with _writing():
            return (
                self._one(template, locale, "push_title", facts),
                self._one(template, locale, "push_body", facts),
                self._render("{{ order_id }}", facts),
            )

    def _layout(self, template: str, locale: str, facts: dict[str, Any]) -> dict[str, Any]:
        """Render the parts of a mail that mail.txt and mail.html lay out."""
        texts, common = self._texts[locale][template], self._texts[locale]["common"]
        pairs = [(label, self._render(value, facts)) for label, value in texts.get("facts", [])]
        return {
            "locale": locale,
            "words": common,
            "subject": self._one(template, locale, "subject", facts),
            "heading": self._render(texts["heading"], facts),
            "greeting": self._render(common["greeting"], facts) if facts["name"] else "",
            "lines": [line for text in texts["lines"] if (line := self._render(text, facts))],
            "button": texts.get("button", "") if facts["link"] else "",
            "facts": [(label, value) for label, value in pairs if value],
            "items": facts.get("items", []) if texts.get("items") else [],
            "address": address_lines(facts.get("address")),
            "footer": self._render(common["footer"], facts),
        }

    def _facts(self, locale: str, data: Mapping[str, Any], link: str = "") -> dict[str, Any]:
        shop = parseaddr(self._settings.mail_from)[0] or self._texts[locale]["common"]["shop"]
        number = str(data.get("order_id", ""))[-8:].upper()
        fixed = {"shop": shop, "link": link, "number": number, "public_url": self._settings.public_url}
        return {"name": "", **data, **fixed}

    def _one(self, template: str, locale: str, part: str, facts: Mapping[str, Any]) -> str:
        return self._render(self._texts[locale][template][part], facts)

    def _render(self, text: str, facts: Mapping[str, Any]) -> str:
        return one_line(self._plain.from_string(text).render(facts))


def address_lines(address: Any) -> list[str]:
    """Write an address in lines, leaving out what it does not have."""
    if not isinstance(address, dict):
        return []
    recipient, phone, *place, postal_code = (str(address.get(name) or "") for name in ADDRESS_FIELDS)
    lines = (f"{recipient} {phone}", " ".join(filter(None, place)), postal_code)
    return [line.strip() for line in lines if line.strip()]
