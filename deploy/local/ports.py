"""Which ports are free."""

import errno
import os
import random
import socket
from collections import deque

from deploy.local.errors import SetupError

# Below the kernel's range for outgoing connections, which could take a port before we listen on it.
FREE_RANGE = range(20000, 32000)
# So many of the ports chosen last are chosen by no other process, for their servers may not listen yet.
CLAIMS = 256
_claims: deque[int] = deque()


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Tell whether a server could listen on `port` now; a forbidden port raises PermissionError."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
                return False
            raise
    return True


def free_ports(count: int) -> list[int]:
    """Choose `count` different ports that nobody listens on and no other process has chosen."""
    chosen: list[int] = []
    for port in random.sample(FREE_RANGE, len(FREE_RANGE)):
        if is_free(port, "0.0.0.0") and _claim(port):
            chosen.append(port)
        if len(chosen) == count:
            return chosen
    raise SetupError("No free port between 20000 and 32000; end programs that are no longer needed.")


def _claim(port: int) -> bool:
    """Keep other processes from choosing a port, by a name that the kernel frees when this process ends."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as claim:
        try:
            claim.bind(f"\0ecommerce-basic/port/{port}")
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
        _claims.append(claim.detach())
    if len(_claims) > CLAIMS:
        os.close(_claims.popleft())
    return True
