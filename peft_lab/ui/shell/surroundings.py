"""A page with what surrounds it: the bar of the path above, what is locked, and the side bar's own entries."""

from __future__ import annotations

from collections.abc import Callable

from peft_lab.ui import state
from peft_lab.ui.classroom.bar import shown_bar
from peft_lab.ui.components import frame
from peft_lab.ui.components.mending import mend
from peft_lab.ui.components.parts import told
from peft_lab.ui.shell.turning import turning
from peft_lab.ui.tour import settings
from peft_lab.ui.tour.bar import bar
from peft_lab.ui.tour.share import share


def draw(page: str, run: Callable[[], None]) -> None:
    """Everything that the app shows for one page."""
    arrived = frame.enter(page, settings.lockable(page))
    frame.projector_style()
    mend()
    # The first of what stands above a page: it stays in view, and hides what scrolls past above it.
    notice = bar(page, arrived)
    frame.noted()
    shown_bar(page)
    frame.locked_note(page, settings.labels(page))
    with told():
        run()
    notice()
    state.finish_address()
    share(page)
    if frame.projecting():
        turning(page)
    frame.projector_switch()
    frame.way_out()
