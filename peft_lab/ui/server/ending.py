"""How the server begins, and how it ends when it is asked to (SIGTERM)."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import peft_lab
from peft_lab import journal
from peft_lab.classroom import mode
from peft_lab.ui.server import arenas, beginning, downloads, turns


def in_order(first: Callable[[], None]) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """A lifespan for ``st.App``, with what :mod:`.beginning` makes ready, that lets the interpreter end as after its
    last line.

    Uvicorn stops the server on SIGTERM and then sends itself the signal once more, which would kill the process before
    its exit handlers ran: the semaphores of worker processes would stay behind. By then nothing is left to be stopped.

    Args:
        first: makes ready what the first page needs.
    """

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        arenas.few()
        journal.note("server started", version=peft_lab.__version__, of_class=mode.on())
        beginning.begin(first)
        with downloads.noted(), turns.in_order():
            yield
        journal.note("server ended")
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    return lifespan
