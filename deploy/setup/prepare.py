"""Make what the containers write to, before any of them starts, and refuse a start that can't go well.

Runs as root of a container without a network, in ROOT (the folder that holds `data` and `logs`).
"""

import os
import sys
from pathlib import Path

from certificate import BadCertificate, make_certificate
from checks import ADMINISTRATION, Refused, check_settings, read_files

# The user that our own images run as.
SERVICE_USER = 10001
SERVICES = ("user-service", "product-service", "order-service", "notification-service")
OWNED_BY_SERVICES = (*(f"logs/{service}" for service in SERVICES), "data/sms")
MODE = "docker"


def claim_data(root: Path) -> None:
    """Write down that Docker made the data; refuse data that plain processes made."""
    mark = root / "data/.mode"
    mark.parent.mkdir(exist_ok=True)
    if not mark.exists():
        mark.write_text(MODE + "\n", encoding="utf-8")
    mode = mark.read_text(encoding="utf-8").strip()
    if mode != MODE:
        raise Refused(f"The folder data belongs to the suite in {mode} mode: use `make up`, or `make reset`.")


def hand_over(root: Path) -> None:
    """Make the folders that services write to and give them, with all they hold, to the services' user."""
    for name in OWNED_BY_SERVICES:
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        for path in (folder, *folder.rglob("*")):
            if path.lstat().st_uid != SERVICE_USER:
                os.chown(path, SERVICE_USER, SERVICE_USER, follow_symlinks=False)


def protect_key(root: Path) -> None:
    """Give the certificate's key to root alone, also one that the operator put there."""
    key = root / "data/tls/key.pem"
    os.chown(key, 0, 0)
    key.chmod(0o600)


def main() -> int:
    """Prepare the folder that the environment names."""
    root = Path(os.environ.get("ROOT", "/suite"))
    try:
        settings = dict(os.environ)
        check_settings(settings | read_files(settings), ADMINISTRATION)
        claim_data(root)
        hand_over(root)
        make_certificate(root / "data/tls", os.environ.get("PUBLIC_URL", ""))
        protect_key(root)
    except (Refused, BadCertificate) as refusal:
        print(refusal, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"The folders data and logs can't be prepared: {error}.", file=sys.stderr)
        return 1
    print("The folders, the certificate and the settings are ready.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
