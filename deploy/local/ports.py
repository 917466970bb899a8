"""Which ports are free."""

import errno
import random
import socket

from deploy.local.errors import SetupError

# Below the kernel's range for outgoing connections, which could take a port before we listen on it.
FREE_RANGE = range(20000, 32000)


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
    """Choose `count` different ports that nobody listens on."""
    chosen: list[int] = []
    for port in random.sample(FREE_RANGE, len(FREE_RANGE)):
        if is_free(port, "0.0.0.0"):
            chosen.append(port)
        if len(chosen) == count:
            return chosen
    raise SetupError("No free port between 20000 and 32000; end programs that are no longer needed.")
