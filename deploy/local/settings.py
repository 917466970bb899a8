"""The suite's settings: `.env` over `.env.example`, and what the caller's shell sets over both."""

import os
from collections.abc import Mapping
from pathlib import Path

from deploy.local.errors import SetupError
from deploy.setup.checks import OPTIONAL, SECRETS, Refused, read_files


def read_values(path: Path) -> dict[str, str]:
    """Read NAME=value lines; values are plain, comments stand on lines of their own."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


class Settings:
    """Look up what the operator set."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    @classmethod
    def load(cls, file: Path, example: Path, shell: Mapping[str, str] = os.environ) -> "Settings":
        """Read `file`; a name that it lacks counts as in the example, a name set in the shell wins.

        Instead of NAME, `file` or shell may set NAME_FILE to a path.
        """
        defaults = read_values(example)
        secrets = {f"{name}_FILE" for name in (*SECRETS, *OPTIONAL)}
        given = read_values(file)
        given |= {name: shell[name] for name in {*defaults, *given, *secrets} if name in shell}
        try:
            return cls(defaults | given | read_files(given))
        except Refused as refusal:
            raise SetupError(str(refusal)) from None

    def __getitem__(self, name: str) -> str:
        value = self._values.get(name, "")
        if not value:
            raise SetupError(f"{name} is empty; set it in .env.")
        return value

    def get(self, name: str, default: str = "") -> str:
        """Return a setting that may be left empty."""
        return self._values.get(name) or default

    def all(self) -> Mapping[str, str]:
        """Return every setting."""
        return self._values

    def port(self, name: str, default: int) -> int:
        """Return a port number."""
        text = self.get(name, str(default))
        if not text.isdigit() or not 0 < int(text) < 65536:
            raise SetupError(f"{name} in .env must be a port number between 1 and 65535.")
        return int(text)

    def some(self, names: "list[str] | tuple[str, ...]") -> dict[str, str]:
        """Return these settings under their own names, empty ones left out."""
        return {name: self._values[name] for name in names if self._values.get(name)}

    @property
    def development(self) -> bool:
        """Tell whether the mail catcher belongs to the suite."""
        return self.get("APP_ENV", "development") != "production"
