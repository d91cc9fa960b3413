"""Find ports for servers that a test or a bench starts, and for processes that train together."""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path
from typing import Any

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


def meeting() -> Any:
    """Return torch's store at which processes meet, as torchrun holds it: its ``port`` belongs to this process until it
    is let go, where one that was only found free may be taken before they have started."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # documented, not in __all__

    return TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def joined(port: int) -> Any:
    """Return the store of :func:`meeting` in one of the processes, for ``init_process_group``."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    return TCPStore("127.0.0.1", port, is_master=False)
