"""The colours stand once, and every pair of them that meets on the screen has the contrast that WCAG AA asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from PIL import Image

from peft_lab.core import palette
from peft_lab.core.palette import Shade

ROOT = Path(__file__).parents[2]
TEXT, GRAPHIC = 4.5, 3.0
THEMES = ("light", "dark")
_LITERAL = re.compile(
    r"""#(?:[0-9A-Fa-f]{8}|[0-9A-Fa-f]{6}|[0-9A-Fa-f]{3,4})\b(?![-\w])|\b(?:rgb|hsl)a?\(\s*\d"""
)

Colour = str | Shade
#: Letters: what, on what ground, how opaque, and the tint (colour, percent) that lies on the ground.
TEXTS: list[tuple[str, Colour, Colour, float, tuple[Colour, int] | None]] = [
    *(
        (f"{what} on {ground}", colour, getattr(palette, ground), opacity, None)
        for ground in ("PAGE", "PANEL", "SIDEBAR", "SIDEBAR_PANEL")
        for what, colour, opacity in (
            ("text", palette.INK, 1.0),
            ("captions and placeholders", palette.INK, 0.6),
            ("links", palette.LINK, 1.0),
            ("trained figures of tables", palette.TRAINED, 1.0),
            ("quantised figures of tables", palette.QUANTISED, 1.0),
        )
    ),
    ("accent", palette.ACCENT, palette.PAGE, 1, None),
    ("chosen pills: the accent on its own tint", palette.ACCENT, palette.PAGE, 1, (palette.ACCENT, 10)),
    ("primary buttons", palette.PAGE, palette.ACCENT, 1, None),
    *(
        (f"{what} in a chosen row", colour, palette.PAGE, 1, (palette.ACCENT, palette.TINT))
        for what, colour in (
            ("trained", palette.TRAINED), ("quantised", palette.QUANTISED), ("text", palette.INK),
        )
    ),
    ("column names in a folded chosen row", palette.INK, palette.PAGE, 0.72, (palette.ACCENT, palette.TINT)),
    *(
        (f"source {shade.light}", shade, palette.PAGE, 1, (shade, palette.SOURCE_TINT))
        for shade in (palette.MEASURED, palette.COUNTED, palette.SIMULATED, palette.CITED)
    ),
    *(
        (f"marks of an answer {shade.light}", shade, palette.PAGE, 1, (shade, palette.MARK_TINT))
        for shade in (palette.RIGHT, palette.WRONG)
    ),
    ("drawing: names", palette.INK, palette.FROZEN, 1, None),
    ("drawing: names on matrices", palette.INK, palette.TRAINED_LIGHT, 1, None),
    ("drawing: notes", palette.SOFT, palette.PAGE, 1, None),
    ("the most surprising token of an answer", palette.INK, palette.PAGE, 1, (palette.WRONG, 34)),
    *(
        (f"drawing: name of the phase {number}", palette.PAGE, shade, 1, None)
        for number, shade in enumerate((palette.TRAINED, palette.FORWARD, palette.BACKWARD))
    ),
    # Plotly writes on an area in #FFFFFF or #444444, whichever stands out more (tinycolor's mostReadable).
    ("treemap: trained", palette.WHITE, palette.CHART_TRAINED, 1, None),
    ("treemap: quantised", palette.WHITE, palette.CHART_QUANTISED, 1, None),
    ("treemap: frozen", palette.CHART_AREA_INK, palette.CHART_AREA_FROZEN, 1, None),
    ("treemap: places", palette.CHART_AREA_INK, palette.CHART_AREA_PLACE, 1, None),
    ("treemap: frozen, as the style sheet has it", palette.INK, palette.FROZEN, 1, None),
    ("treemap: places, as the style sheet has them", palette.INK, palette.AREA_PLACE, 1, None),
    ("QR code", palette.BLACK, palette.WHITE, 1, None),
]  # fmt: skip
#: Parts of pictures without which they would say less, with their ground.
GRAPHICS: list[tuple[str, Colour, Colour]] = [
    *(
        (f"drawing: {name}", getattr(palette, name), palette.PAGE)
        for name in ("TRAINED", "QUANTISED", "LINE", "EDGE", "FORWARD", "BACKWARD")
    ),
    ("drawing: hatch and its constants on frozen", palette.QUANTISED, palette.FROZEN),
    ("drawing: outline of a filled matrix", palette.TRAINED, palette.PAGE),
    ("bar at the tour and at a chosen row", palette.ACCENT, palette.PAGE),
    ("quiet lines", palette.CHART_QUIET, palette.PAGE),
    ("mark of the moment", palette.CHART_MARK, palette.PAGE),
    *((f"curve {number}", colour, palette.PAGE) for number, colour in enumerate(palette.SERIES)),
    *((f"memory: {part}", colour, palette.PAGE) for part, colour in palette.MEMORY.items()),
    ("scale, one end", palette.CHART_TRAINED, palette.CHART_ZERO),
    ("scale, other end", palette.CHART_QUANTISED, palette.CHART_ZERO),
    ("logo: matrix", palette.LOGO_MATRIX, palette.SIDEBAR),
    ("logo: adapter", palette.CHART_TRAINED, palette.SIDEBAR),
    ("logo: name, which WCAG leaves free", palette.LOGO_NAME, palette.SIDEBAR),
]


def _in(colour: Colour, theme: str) -> list[float]:
    """Red, green and blue from 0 to 1."""
    return [
        byte / 255
        for byte in bytes.fromhex((colour if isinstance(colour, str) else getattr(colour, theme))[1:])
    ]


def _over(front: list[float], back: list[float], opacity: float) -> list[float]:
    return [opacity * above + (1 - opacity) * below for above, below in zip(front, back, strict=True)]


def _luminance(colour: list[float]) -> float:
    """https://www.w3.org/TR/WCAG22/#dfn-relative-luminance"""
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: list[float], other: list[float]) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", THEMES)
def test_letters_can_be_read_and_parts_of_pictures_seen(theme: str) -> None:
    faint = {}
    for what, letters, ground, opacity, tint in TEXTS:
        under = _in(ground, theme)
        under = _over(_in(tint[0], theme), under, tint[1] / 100) if tint else under
        faint[what] = _contrast(_over(_in(letters, theme), under, opacity), under) / TEXT
    for what, part, ground in GRAPHICS:
        faint[what] = _contrast(_in(part, theme), _in(ground, theme)) / GRAPHIC
    assert {what: found for what, found in faint.items() if found < 1} == {}
    assert len(faint) == len(TEXTS) + len(GRAPHICS)


def test_every_colour_is_checked_or_excused() -> None:
    """A frame groups what its title names and says nothing of its own."""
    checked: set[Colour] = {colour for _, *pair in GRAPHICS for colour in pair}
    for _, letters, ground, _, tint in TEXTS:
        checked |= {letters, ground, *((tint[0],) if tint else ())}
    named = {
        name: [value]
        for name, value in vars(palette).items()
        if isinstance(value, Shade) or (isinstance(value, str) and value.startswith("#"))
    } | {"SERIES": list(palette.SERIES), "MEMORY": list(palette.MEMORY.values())}
    assert {name for name, colours in named.items() if not checked.issuperset(colours)} == {"FRAME"}


def test_no_colour_stands_outside_the_palette() -> None:
    places = [ROOT / "peft_lab", ROOT / "pages", ROOT / "tools"]
    sources = [
        path
        for place in places
        for path in place.rglob("*.*")
        if path.suffix in (".py", ".svg", ".css", ".html")
    ]
    assert len(sources) > 200
    found = {
        f"{path.relative_to(ROOT)}: {match}"
        for path in (ROOT / "app.py", *sources)
        if path != Path(palette.__file__) and path.name != "logo.svg"  # compared below
        for match in _LITERAL.findall(path.read_text(encoding="utf-8"))
    }
    assert found == set()
    assert all(_LITERAL.search(text) for text in ("fill='#C2410C'", "color: #fff;", "rgba(1,2,3,0.5)"))


def test_the_logo_and_the_page_icon_have_the_colours_of_the_palette() -> None:
    text = (ROOT / "peft_lab/ui/logo.svg").read_text(encoding="utf-8")
    assert re.findall(r'fill="([^"]+)"', text) == [
        palette.LOGO_MATRIX, palette.CHART_TRAINED, palette.CHART_TRAINED, palette.LOGO_NAME,
    ]  # fmt: skip
    with Image.open(ROOT / "peft_lab/ui/favicon.png") as icon:
        pixels = icon.convert("RGBA").getcolors() or []
    colours = [colour for _, colour in pixels if isinstance(colour, tuple)]
    drawn = {f"#{red:02X}{green:02X}{blue:02X}" for red, green, blue, opaque in colours if opaque}
    assert drawn == {palette.LOGO_MATRIX, palette.CHART_TRAINED}


@pytest.mark.parametrize("theme", THEMES)
def test_streamlits_theme_has_the_colours_of_the_palette(theme: str) -> None:
    settings = tomllib.loads((ROOT / ".streamlit/config.toml").read_text(encoding="utf-8"))["theme"][theme]
    page = {
        "primaryColor": palette.ACCENT,
        "backgroundColor": palette.PAGE,
        "secondaryBackgroundColor": palette.PANEL,
        "textColor": palette.INK,
        "linkColor": palette.LINK,
        "borderColor": palette.FRAME,
        "dataframeHeaderBackgroundColor": palette.PANEL,
        "codeBackgroundColor": palette.PANEL,
    }
    sidebar = {
        "backgroundColor": palette.SIDEBAR,
        "secondaryBackgroundColor": palette.SIDEBAR_PANEL,
        "borderColor": palette.FRAME,
    }
    assert settings == {
        **{key: getattr(shade, theme) for key, shade in page.items()},
        "sidebar": {key: getattr(shade, theme) for key, shade in sidebar.items()},
    }
