"""Where the C library takes small memory from.

glibc gives each new thread a place of its own to take memory from, up to eight for a processor. Streamlit draws every
page in a new thread, so what outlives a page lies scattered over all of these places, and what was freed between goes
back to nobody: a server of a class grew by it (bench/RESULTS.md). Python's threads take turns, so two places do.
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

MOST = 2
_M_ARENA_MAX = -8  # malloc.h


def few() -> None:
    """Let all threads of this process share :data:`MOST` of them. Nothing happens under another C library, or once
    there are more."""
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):  # musl has no mallopt
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, MOST)
