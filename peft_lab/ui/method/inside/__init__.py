"""Look inside: the picture that only one method has. A method's view is named in :data:`VIEWS`."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from peft_lab.ui.components.knobs import Choice

View = Callable[[Choice], None]
#: By slug, a module here and the function in it that draws.
VIEWS = {
    **{slug: (slug, "show") for slug in ("adapters", "bitfit", "ia3", "lora", "qlora")},
    **{slug: ("soft", f"show_{slug}") for slug in ("prefix", "prompt", "ptuning")},
}


def view_of(slug: str) -> View | None:
    """Return what draws the method's picture; None for a method without one."""
    if slug not in VIEWS:
        return None
    module, name = VIEWS[slug]
    view: View = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    return view
