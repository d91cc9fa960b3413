"""What the first page is drawn by, read before anybody asks for it."""

from __future__ import annotations


def ready() -> None:
    """Import what the frame of every page and Home need, and read the run that Home plays.

    Streamlit reads the page's icon with numpy and Pillow; no page is named here but the first, since whoever opens
    another meets most of it in this one.
    """
    import numpy  # noqa: F401
    import PIL.Image

    from peft_lab.ui.home import page

    PIL.Image.preinit()
    page.ready()
