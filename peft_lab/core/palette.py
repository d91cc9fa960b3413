"""Define all colours, each once: drawings, charts, tables, the logo and Streamlit's theme use these.

Contrasts follow WCAG 2.2, level AA: at least 4.5 for text on its background, at least 3 for the parts of a picture that
are needed to understand it. ``tests/core/test_palette.py`` computes them, and compares ``.streamlit/config.toml``,
``logo.svg`` and ``favicon.png``, which cannot import this module.
"""

from __future__ import annotations

from typing import NamedTuple


class Shade(NamedTuple):
    """One colour in the light and in the dark theme, each as ``#RRGGBB``."""

    light: str
    dark: str

    @property
    def css(self) -> str:
        """Return the colour as CSS that follows ``color-scheme``, which Streamlit sets with its theme."""
        return f"light-dark({self.light}, {self.dark})"


# Trained, frozen and quantised are the three colours of the whole app.
TRAINED = Shade("#C2410C", "#FB923C")
TRAINED_LIGHT = Shade("#FDBA8C", "#8A4A20")  # filled areas with letters on them; their outline is TRAINED
FROZEN = Shade("#D7DBE2", "#3A424E")  # the ground of letters; its outline is EDGE
QUANTISED = Shade("#1D4ED8", "#93B4FF")

# What moves: activations on their way up, gradients on theirs down.
FORWARD = Shade("#0F766E", "#5EEAD4")
BACKWARD = Shade("#7C3AED", "#C4B5FD")

INK = Shade("#0B1220", "#F1F4F8")  # darker than looks necessary: captions are this at 60%
SOFT = Shade("#4A5364", "#B6BFCC")
LINE = Shade("#7B8494", "#8E98A8")
EDGE = Shade("#8A93A3", "#5C6778")
AREA_PLACE = Shade("#B9C0CC", "#525D6C")  # a treemap's places, around FROZEN areas
FRAME = Shade("#DFE3E9", "#343B46")  # groups what belongs together; says nothing of its own

PAGE = Shade("#FFFFFF", "#14171C")
PANEL = Shade("#F5F6F8", "#1E232B")
SIDEBAR = Shade("#F5F6F8", "#1A1E25")
SIDEBAR_PANEL = Shade("#FFFFFF", "#262C36")
ACCENT = Shade("#BF3F0B", "#FFB070")  # controls: TRAINED has 4.48 on its own tint, which chosen pills are
LINK = QUANTISED
TINT = 8  # percent of the accent under a chosen row; the trained figures in it need the 4.5 as well

# Where a figure comes from, on a tint of itself.
MEASURED = Shade("#166534", "#86EFAC")
COUNTED = QUANTISED
SIMULATED = Shade("#6D28D9", "#C4B5FD")
CITED = Shade("#475569", "#CBD5E1")
SOURCE_TINT = 12  # percent

# Marks on a model's answer. Wrong ones have a wavy line, too.
RIGHT = MEASURED
WRONG = Shade("#A81C44", "#FDA4AF")
MARK_TINT = 10  # percent

# What has one colour in both themes: charts, which know of none, the logo and codes for cameras.
CHART_TRAINED = TRAINED.light
CHART_QUANTISED = "#2563EB"
CHART_AREA_FROZEN = (
    FROZEN.light
)  # areas with their names on them; the style sheet puts the dark ones in their place
CHART_AREA_PLACE = AREA_PLACE.light
CHART_AREA_INK = "#444444"  # what Plotly itself writes on the two
CHART_ZERO = "#F5F5F4"  # the middle of a scale whose ends are the two above
CHART_QUIET = "#8A94A6"  # lines and points that carry no method's colour
CHART_MARK = "#5B6B82"  # the moment that is looked at
# Okabe-Ito derived; the first is the accent.
SERIES = (
    CHART_TRAINED, CHART_QUANTISED, "#0F9D7A", "#9A6BD6", "#B7791F", "#D6457F", CHART_MARK, "#0E8FB3", "#7A8B1F",
)  # fmt: skip
# Memory parts keep one colour each on every page.
MEMORY = {
    "weights": "#878F9D",
    "quantisation": CHART_QUANTISED,
    "adapter": CHART_TRAINED,
    "gradients": "#9373E8",
    "optimizer": "#B98514",
    "activations": "#34A090",
    "logits": "#1F7066",
    "temporary": "#64748B",
    "other": "#9A7B66",
    "held by the allocator": "#B06A8C",
}
LOGO_MATRIX = "#818A9A"
LOGO_NAME = "#6B7280"
WHITE = "#FFFFFF"
BLACK = "#000000"


def faint(colour: str, opacity: float) -> str:
    """Return a ``#RRGGBB`` colour as CSS with an opacity from 0 to 1: 'rgba(138,148,166,0.2)'."""
    red, green, blue = bytes.fromhex(colour[1:])
    return f"rgba({red},{green},{blue},{opacity:g})"


def drawn(colour: str) -> str:
    """Return a ``#RRGGBB`` colour as a browser reports it in computed styles: 'rgb(138, 148, 166)'."""
    return f"rgb({', '.join(map(str, bytes.fromhex(colour[1:])))})"


def variables(**shades: Shade) -> str:
    """Return CSS variable declarations: ``on_trained`` becomes ``--on-trained``."""
    return " ".join(f"--{name.replace('_', '-')}: {shade.css};" for name, shade in shades.items())
