"""How names, addresses and numbers are written, and when two of them are the same."""

import re
import unicodedata

USERNAME_LENGTH = (3, 32)
EMAIL_LENGTH = 254
NICKNAME_LENGTH = 50

# Letters and marks by their category, but nothing to see (Unicode's Default_Ignorable_Code_Point).
INVISIBLE = frozenset(
    map(chr, [0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), 0x3164, 0xFFA0])
) | frozenset(map(chr, [*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)]))

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_EMAIL = re.compile(rf"(?=[^@]{{1,64}}@){_ATOM}(?:\.{_ATOM})*@(?:{_LABEL}\.)+(?![0-9]+\Z){_LABEL}")
_MAINLAND_MOBILE = re.compile(r"1[3-9][0-9]{9}")
PHONE_PATTERN = r"^(\+[1-9][0-9]{6,14}|1[3-9][0-9]{9})$"
_PHONE = re.compile(PHONE_PATTERN.strip("^$"))


def clean_username(text: str) -> str:
    """Return the username composed (NFC), or raise ValueError saying what it may be made of."""
    name = unicodedata.normalize("NFC", text)
    if not USERNAME_LENGTH[0] <= len(name) <= USERNAME_LENGTH[1]:
        raise ValueError("must have 3 to 32 characters")
    # Marks are parts of letters in many scripts: without them nobody can write their name in Hindi.
    if not all(c in "_.-" or unicodedata.category(c)[0] in "LM" or c.isdecimal() for c in name):
        raise ValueError("may have letters, digits, '_', '.' and '-' only")
    if unicodedata.category(name[0])[0] == "M" or not INVISIBLE.isdisjoint(name):
        raise ValueError("may have letters, digits, '_', '.' and '-' only")
    return name


def clean_email(text: str) -> str:
    """Return the e-mail address, or raise ValueError when mail can't be sent to it."""
    if len(text) > EMAIL_LENGTH or not _EMAIL.fullmatch(text):
        raise ValueError("must be an e-mail address")
    return text


def clean_phone(text: str) -> str:
    """Return the phone number as it was written, or raise ValueError when no country can be told."""
    if not _PHONE.fullmatch(text):
        raise ValueError("must be an international number such as +8613800138000, or a mainland mobile")
    return text


def clean_nickname(text: str) -> str:
    """Return the nickname composed (NFC), or raise ValueError when it can't be shown on one line."""
    name = unicodedata.normalize("NFC", text)
    if not 1 <= len(name) <= NICKNAME_LENGTH or not name.strip():
        raise ValueError("must have 1 to 50 characters")
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name):
        raise ValueError("must not contain control characters")
    return name


def clean_line(text: str) -> str:
    """Return text that fits on one line of a label, or raise ValueError."""
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text) or not text.strip():
        raise ValueError("must be one line that is not blank")
    return text


def fold(name: str) -> str:
    """Return what two names share when they differ only in case, width or composition."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def e164(phone: str | None) -> str | None:
    """Write a phone number the international way, as text messages need it."""
    return f"+86{phone}" if phone and _MAINLAND_MOBILE.fullmatch(phone) else phone
