"""Colours and the little CSS that Streamlit's theme options do not reach."""

from __future__ import annotations

from peft_lab.core import palette
from peft_lab.ui import web

TRAINABLE = palette.CHART_TRAINED
FROZEN = palette.CHART_AREA_FROZEN
QUANTISED = palette.CHART_QUANTISED
MEMORY = palette.MEMORY
QUIET = palette.CHART_QUIET
SERIES = palette.SERIES
BAND_OPACITY = 0.14
FINE_TICKS = "D2"  # Plotly's word for ticks at ones, twos and fives of a logarithmic axis
PERCENT_TICKS = ".0%"
FINE_PERCENT_TICKS = ".1%"

_COLOURS = palette.variables(
    peft_trained=palette.TRAINED, peft_accent=palette.ACCENT, peft_ink=palette.INK, peft_page=palette.PAGE,
    peft_soft=palette.SOFT, peft_frame=palette.FRAME, peft_measured=palette.MEASURED, peft_counted=palette.COUNTED,
    peft_simulated=palette.SIMULATED, peft_cited=palette.CITED, peft_link=palette.LINK, peft_wrong=palette.WRONG,
    peft_area=palette.FROZEN, peft_area_place=palette.AREA_PLACE,
)  # fmt: skip

#: In the page that the browser loads (:mod:`peft_lab.ui.shell.dress`).
CSS = web.read(
    "theme.css",
    COLOURS=_COLOURS,
    SOURCE_TINT=palette.SOURCE_TINT,
    CHART_AREA_FROZEN=palette.drawn(palette.CHART_AREA_FROZEN),
    CHART_AREA_PLACE=palette.drawn(palette.CHART_AREA_PLACE),
    CHART_AREA_INK=palette.drawn(palette.CHART_AREA_INK),
)

# For a room: larger type, in charts too, and nothing beside the page itself.
PROJECTOR = """
<style>
html { font-size: 21px !important; }
[data-testid="stSidebar"], [data-testid="stHeader"], [data-testid="stExpandSidebarButton"] { display: none !important; }
.st-key-home-first { --peft-zoom: 1.3 !important; }
.block-container { max-width: 100% !important; padding-top: 1.2rem !important; }
.js-plotly-plot text, #js-plotly-tester text { font-size: 16px !important; }
</style>
"""


# ----------------------------------------
# Room that is kept for what comes later than what stands under it, as CSS: a page does not jump while it is drawn.
#
# A control's script comes after the page; until then a grey bar stands for it, lower than most controls. What is
# drawn into a place above others (a tree above its form, a card above its filters) has its height kept in the same
# way.


MOST_LINES = 30  # of code in a container ``lines-<how many>-narrow-<how many on a phone>-...``
MOST_BARS = 9  # in a container ``bars-<how many>-...``, drawn close
MOST_TENS = 80  # of pixels, in a container ``chart-<how many>-...``
MOST_ROWS = 16  # of a table in a container ``rows-<how many>-...``; one with more scrolls


def _room(mark: str, most: int, each: float, more: float = 0, unit: str = "rem") -> str:
    return "\n".join(
        f'[class*="{mark}{number}-"] {{ min-height: {each * number + more:g}{unit}; }}'
        for number in range(1, most + 1)
    )


_ON_A_PHONE = f"@media (max-width: 640px) {{ {_room('-narrow-', MOST_LINES, 1.4, 2)} }}"
_LINES = _room("st-key-lines-", MOST_LINES, 1.4, 2) + f"\n{_ON_A_PHONE}"
_BARS = _room("st-key-bars-", MOST_BARS, 1.6, 1.6)
_CHARTS = _room("st-key-chart-", MOST_TENS, 10, unit="px")
_ROWS = _room("st-key-rows-", MOST_ROWS, 2.04, 2.04)

#: First into a container that is filled later: one with nothing in it has no place in the browser, and no room.
KEPT_ROOM = '<span class="kept"></span>'

#: In the page that the browser loads (:mod:`peft_lab.ui.shell.dress`).
ROOM_CSS = web.read("room.css", LINES=_LINES, BARS=_BARS, ROWS=_ROWS, CHARTS=_CHARTS)
