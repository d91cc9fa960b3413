"""What is made ready while nobody is there yet, so that the first page finds it: what the first page is drawn by, the
process that counts, the libraries that other pages need and the sentences."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from peft_lab.errors import PeftLabError
from peft_lab.tasks import all_tasks
from peft_lab.ui.server import lasting
from peft_lab.workers import inspector

_begun = threading.Event()


def begun() -> bool:
    """Whether a server makes ready; a page that is drawn without one, as AppTest does, starts what it needs itself."""
    return _begun.is_set()


def begin(first: Callable[[], None]) -> None:
    """Begin with it, ``first`` first. Returns at once."""
    _begun.set()
    threading.Thread(target=_ready, args=(first,), name="beginning", daemon=True).start()


def _ready(first: Callable[[], None]) -> None:
    # A browser that comes at once reads scripts while this is made; a process that imports torch would take the second
    # processor from both.
    try:
        first()
    finally:
        inspector.warm()
    import pandas  # noqa: F401  Streamlit imports it for the first table or chart that it draws

    for task in all_tasks():
        with suppress(PeftLabError):  # what is not there is told where it is needed
            task.load()
    lasting.set_apart()
