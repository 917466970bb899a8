"""Write a .env with random secrets and the other settings of .env.example; leave one that is there alone.

With APP_ENV=production in the environment it is one for production: limits get the values that the example's
comments name.
"""

import os
import re
import secrets
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))

from deploy.setup.checks import SECRETS  # noqa: E402

SETTING = re.compile(r"([A-Z][A-Z0-9_]*)=(.*)")
IN_PRODUCTION = re.compile(r"\(in production perhaps (\d+)\)")


def write_settings(example: Iterable[str], *, production: bool) -> str:
    """Return the example's lines with a random value for each secret that the suite needs."""
    lines, advised = [], None
    for line in example:
        if setting := SETTING.fullmatch(line):
            line = f"{setting[1]}={_value(setting[1], setting[2], advised if production else None)}"
            if production and setting[1] == "APP_ENV":
                line = "APP_ENV=production"
        advised = IN_PRODUCTION.search(line)
        lines.append(line)
    return "\n".join((*HEAD, *lines[HEAD_LINES:])) + "\n"


# What the example says of itself does not hold for a copy with secrets of its own.
HEAD_LINES = 3
HEAD = (
    "# The settings of the suite, with random secrets: keep it to yourself, and a copy where it is safe.",
    "# Values are plain: no quotes, no spaces, no $ and no #.",
)


def _value(name: str, value: str, advised: "re.Match[str] | None") -> str:
    if name == "ADMIN_PASSWORD":
        return secrets.token_urlsafe(18)
    if name in SECRETS:
        return secrets.token_hex(32)
    return advised[1] if advised else value


def main() -> int:
    """Write the file, readable for its owner alone."""
    mode = os.environ.get("APP_ENV") or "development"
    if mode not in ("development", "production"):
        print(f"APP_ENV is development or production, not {mode}; no .env was written.", file=sys.stderr)
        return 1
    target, production = ROOT / ".env", mode == "production"
    text = write_settings((ROOT / ".env.example").read_text().splitlines(), production=production)
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        print("There is a .env already; it was left as it is. Move it away for a new one.", file=sys.stderr)
        return 1
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    print("Wrote .env with random secrets. The administrator's password: grep ADMIN_PASSWORD .env")
    if production:
        print("Set PUBLIC_URL, ADMIN_EMAIL, SMTP_*, MAIL_FROM and PAYMENT_HTTP_* in it before the start.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
