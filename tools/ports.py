"""Find a port for a server that a test or a bench starts."""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path

EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST = 10_000  # below are ports of services that people know
SHARE = 500  # ports of one of the processes that test side by side
_given: set[int] = set()


def free_port() -> int:
    """Return a port that nothing listens on, and that nothing takes while the server starts: it is outside the range
    from which the kernel gives ports to connections, in this pytest worker's own share of the others, and given once.

    Raises:
        OSError: none is free.
    """
    highest = int(EPHEMERAL.read_text().split()[0]) if EPHEMERAL.exists() else 32_768
    shares = max(1, (highest - LOWEST) // SHARE)
    first = LOWEST + SHARE * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % shares)
    left = [port for port in range(first, first + SHARE) if port not in _given]
    random.SystemRandom().shuffle(left)
    for port in left:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise OSError(f"No port between {first} and {first + SHARE} is free.")
