"""What a message can be addressed to."""

import re

_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*\Z")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)\Z")
PHONE = r"^\+[1-9][0-9]{6,14}$"


def is_email(text: str) -> bool:
    """Tell whether a mail can be addressed to `text`: plain ASCII before the @, any host name after it."""
    local, _, domain = text.rpartition("@")
    try:
        labels = domain.encode("idna").decode().split(".")
    except UnicodeError:
        return False
    return (
        len(text) <= 254
        and len(local) <= 64
        and bool(_LOCAL.match(local))
        and len(labels) > 1
        and all(_LABEL.match(label) for label in labels)
    )


def is_phone(text: str) -> bool:
    """Tell whether `text` is a number in E.164 that a text message can go to."""
    return re.match(PHONE + r"\Z", text, re.ASCII) is not None and text.isascii()
