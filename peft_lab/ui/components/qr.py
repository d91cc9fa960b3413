"""Draw an address as a QR code that a class reads off the projector with its phones."""

from __future__ import annotations

import html
from functools import lru_cache
from urllib.parse import urlsplit

import segno
import streamlit as st

from peft_lab.core import palette
from peft_lab.ui.foreign import plain
from peft_lab.ui.server.door import class_address, is_loopback

# 117 squares a side: at full screen on a projector of 1,080 lines each is 8 pixels wide.
_LARGEST_VERSION = 25
_SIZE = 800  # CSS pixels a side, where the screen has as many
_BORDER = 4  # white squares around it, which readers need


def show_qr(address: str, key: str = "qr") -> None:
    """Draw an address as a QR code: with the ``key`` qr as large as fits the screen, else as its style sheet says."""
    picture = drawn(address)
    if picture is None:
        st.markdown(
            ":orange[:material/info: This link is too long for a QR code that phones can read. Send the link "
            "instead.]"
        )
        return
    if is_loopback(urlsplit(address).hostname or ""):
        st.markdown(
            ":orange[:material/info: This link works only on this computer. To make a link for other devices, open "
            "the app at this computer's network address.]"
        )
    with st.container(key=key):
        st.image(picture, width="stretch", alt="QR code of the link")


@lru_cache(maxsize=32)
def drawn(address: str) -> str | None:
    """Return the QR code as SVG, dark on white in every theme; None if too fine to read from afar.

    The lowest level of error correction gives the largest squares, which matter more on a clean screen; a
    higher level is used if the code keeps its size.
    """
    try:
        code = segno.make(address, error="l", version=None, micro=False, boost_error=True)
    except segno.DataOverflowError:
        return None
    if int(code.version) > _LARGEST_VERSION:
        return None
    scale = _SIZE // code.symbol_size(border=_BORDER)[0]
    return code.svg_inline(scale=scale, border=_BORDER, dark=palette.BLACK, light=palette.WHITE)


def show_way_in(seen: str, code: str) -> None:
    """Draw the address at which learners join, its QR code and the code. ``seen``: the app's base URL in the teacher's
    browser."""
    address = class_address(seen)
    if address is None:
        st.markdown(
            ":orange[:material/info: At this address, only this computer can reach the app. Start the app with "
            "`peft-lab serve --class`, and open it here at the address that learners use.]"
        )
        st.markdown(f"Code of the class: **{plain(code)}**")
        return
    with st.container(key="way-in", horizontal=True, vertical_alignment="center"):
        show_qr(address, "qr-small")
        shown = html.escape(address.partition("://")[2].rstrip("/"))
        st.html(
            f"<p>Join at<br><b>{shown}</b><br>with the code<br><b><code>{html.escape(code)}</code></b></p>"
        )
