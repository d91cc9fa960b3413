"""Look inside: the picture that only one method has. A module here named after a method's slug is its view."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable

from peft_lab.ui.components.knobs import Choice

View = Callable[[Choice], None]


def view_of(slug: str) -> View | None:
    """Return the method's ``show(choice)``, or ``None`` for a method without a picture of its own."""
    name = f"{__name__}.{slug}"
    if importlib.util.find_spec(name) is None:
        return None
    view: View = importlib.import_module(name).show
    return view
