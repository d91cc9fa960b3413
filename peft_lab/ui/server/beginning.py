"""What is made ready while nobody is there yet, so that the first page finds it: the process that counts, the libraries
that every page needs and the sentences."""

from __future__ import annotations

import threading
from contextlib import suppress

from peft_lab.errors import PeftLabError
from peft_lab.tasks import all_tasks
from peft_lab.workers import inspector


def begin() -> None:
    """Begin with it. Returns at once."""
    inspector.warm()
    threading.Thread(target=_ready, name="beginning", daemon=True).start()


def _ready() -> None:
    import pandas  # noqa: F401  Streamlit imports it for the first component that it draws

    from peft_lab.methods import all_methods
    from peft_lab.models.catalogue import catalogue

    all_methods()
    catalogue()
    for task in all_tasks():
        with suppress(PeftLabError):  # what is not there is told where it is needed
            task.load()
