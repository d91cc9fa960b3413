"""What is answered leaves at once.

Streamlit makes the socket that it listens on without naming its protocol, and asyncio turns Nagle's algorithm off only
where TCP is named. Every answer is written in two pieces, its head and its body, so the second waited until the browser
had acknowledged the first: 40 ms on Linux, for each of the hundred scripts of a page in six rows, and after each run.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

import psutil


def promptly() -> int:
    """Turn Nagle's algorithm off for whatever connects from now on to a port that this process listens on.

    A connection has the options of the socket that it came in by. Returns how many such sockets there are: 0 where the
    system does not say (Windows has no number for them); answers are then as slow as they were, and as right.
    """
    told = 0
    with suppress(psutil.Error, OSError):
        for found in psutil.Process().net_connections("tcp"):
            if found.status == psutil.CONN_LISTEN and found.fd >= 0:
                with socket.socket(fileno=os.dup(found.fd)) as listening:
                    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                told += 1
    return told
