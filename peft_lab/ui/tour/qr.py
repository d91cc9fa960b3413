"""An address as a QR code that a class reads off the projector with its phones."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import urlsplit

import segno
import streamlit as st

from peft_lab import palette
from peft_lab.ui.server.hosts import is_loopback

# 117 squares a side: at full screen on a projector of 1,080 lines each is 8 pixels wide.
_LARGEST_VERSION = 25
_SIZE = 800  # CSS pixels a side, where the screen has as many
_BORDER = 4  # white squares around it, which readers need


def show(address: str) -> None:
    """Draw the code of the address, as large as fits the screen (``theme.py``)."""
    picture = drawn(address)
    if picture is None:
        st.markdown(
            ":orange[:material/info: This link is too long for a QR code that phones can read. Send it instead.]"
        )
        return
    if is_loopback(urlsplit(address).hostname or ""):
        st.markdown(
            ":orange[:material/info: No phone can open this link: it is for this machine alone. Open the app by the "
            "address that this machine has in the network, and link and code are for everybody there.]"
        )
    with st.container(key="qr"):
        st.image(picture, width="stretch", alt="QR code of the link")


@lru_cache(maxsize=32)
def drawn(address: str) -> str | None:
    """The code as SVG, dark on white in every theme; ``None`` where it would be too fine to be read from afar.

    At the lowest level of error correction the squares are largest, which counts more for a clean screen than mending
    does; where a code of the same size has room for a higher level it gets it.
    """
    try:
        code = segno.make(address, error="l", version=None, micro=False, boost_error=True)
    except segno.DataOverflowError:
        return None
    if int(code.version) > _LARGEST_VERSION:
        return None
    scale = _SIZE // code.symbol_size(border=_BORDER)[0]
    return code.svg_inline(scale=scale, border=_BORDER, dark=palette.BLACK, light=palette.WHITE)
