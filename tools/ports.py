"""Find ports for servers that a test or a bench starts, and for processes that train together."""

from __future__ import annotations

import os
import random
import socket
from typing import Any

# Below are ports of services that people know; from 32,768 on Linux gives ports to connections.
LOWEST = 10_000
SHARE = 500  # ports of one of the processes that test side by side
_given: set[int] = set()


def free_port() -> int:
    """Return a port that nothing listens on, and nothing should take while a server starts: it is below the ports
    that connections get, in this pytest worker's own share, and given once.

    Raises:
        OSError: none is free.
    """
    first = LOWEST + SHARE * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
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
