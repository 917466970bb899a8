"""Where the distribution put the servers."""

import shutil
from pathlib import Path

from deploy.local.errors import SetupError

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
POSTGRES_ROOT = Path("/usr/lib/postgresql")
POSTGRES_OLDEST = 15
RABBITMQ = Path("/usr/lib/rabbitmq/bin")


def find(name: str) -> Path:
    """Return the full path of a command, or say that it is missing."""
    found = shutil.which(name, path=PATH)
    if found is None:
        raise SetupError(f"The command {name} is missing; run scripts/packages.sh.")
    return Path(found)


def postgres_bin(version: str = "") -> Path:
    """Return the folder of PostgreSQL's commands: of `version`, else the oldest usable one."""
    found = sorted(int(entry.parent.parent.name) for entry in POSTGRES_ROOT.glob("[0-9]*/bin/postgres"))
    usable = [number for number in found if number >= POSTGRES_OLDEST and version in ("", str(number))]
    if not usable:
        wanted = version or POSTGRES_OLDEST
        raise SetupError(f"PostgreSQL {wanted} is missing; install the package postgresql-{wanted}.")
    return POSTGRES_ROOT / str(usable[0]) / "bin"


def rabbitmq_bin() -> Path:
    """Return the folder of RabbitMQ's own scripts, which run as any user (those in /usr/sbin do not)."""
    if not (RABBITMQ / "rabbitmq-server").exists():
        raise SetupError("RabbitMQ is missing; run scripts/packages.sh, or install rabbitmq-server.")
    return RABBITMQ
