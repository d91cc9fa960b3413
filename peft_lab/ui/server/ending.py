"""How the server ends when it is asked to (SIGTERM)."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def in_order(app: Any) -> AsyncIterator[None]:
    """A lifespan for ``st.App`` that lets the interpreter end as after its last line.

    Uvicorn stops the server on SIGTERM and then sends itself the signal once more, which would kill the process before
    its exit handlers ran: the semaphores of worker processes would stay behind. By then nothing is left to be stopped.
    """
    yield
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
