"""Write SVG: shapes with classes, without colours (which are in the style) and without ids."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Literal

from peft_lab.core import palette
from peft_lab.core.disk import beside

# ----------------------------------------
# Sizes in the drawing: text widths, labels broken into lines, matrix sides and strip thicknesses.
#
# All lengths are SVG user units; at its natural width one unit is one CSS pixel.


# Width of a character in em: of Source Code Pro, and a safe bound for Source Sans, which Streamlit ships.
MONO, SANS = 0.605, 0.56
LINE = 1.18
ELLIPSIS = "…"
# Sides grow with the cube root of the real size: 1/8 and 8 times the hidden size stay readable and distinct.
EXPONENT = 1 / 3


def text_width(text: str, size: float, mono: bool = True) -> float:
    """Return the width of a text, or a safe bound of it in the proportional font."""
    return len(text) * size * (MONO if mono else SANS)


def shorten(text: str, room: float, size: float, mono: bool = True) -> str:
    """Return ``text``, or its beginning and an ellipsis, at most ``room`` wide."""
    if text_width(text, size, mono) <= room:
        return text
    keep = max(1, int(room / (size * (MONO if mono else SANS))) - 1)
    return text[:keep].rstrip("_. ") + ELLIPSIS


def break_name(name: str, room: float, size: float) -> tuple[str, ...]:
    """Return a module name on as few lines of width ``room`` as possible, broken at underscores and dots."""
    after, before = (
        _fill(re.findall(pieces, name), room, size)
        for pieces in (r"[^._]*[._]|[^._]+", r"\.?[^._]*_|\.?[^._]+")
    )
    whole = [lines for lines in (after, before) if all(text_width(line, size) <= room for line in lines)]
    best = min(whole, key=len) if whole else after
    return tuple(shorten(line, room, size) for line in best)


def _fill(pieces: Iterable[str], room: float, size: float) -> list[str]:
    lines: list[str] = []
    for piece in pieces:
        if lines and text_width(lines[-1] + piece, size) <= room:
            lines[-1] += piece
        else:
            lines.append(piece)
    return lines


def side(real: int, hidden: int, base: float, low: float, high: float) -> float:
    """Return a matrix's drawn side: ``base`` for the hidden size, compressed, within [low, high] times ``base``."""
    return base * min(max((real / hidden) ** EXPONENT, low), high)


def thickness(rank: int, full: int, most: float) -> float:
    """Return a strip's thickness for ``rank`` out of ``full``: logarithmic, from more than 2 to ``most``."""
    share = min(1.0, math.log1p(rank) / math.log1p(max(full, 1)))
    return 2 + (most - 2) * share


def number(value: float) -> str:
    """Return a number as text with at most one decimal."""
    return f"{value:.1f}".rstrip("0").rstrip(".") if value % 1 else f"{value:.0f}"


def element(tag: str, inner: str | None = None, /, **attributes: object) -> str:
    """Return an element that holds ``inner``, as SVG; attributes that are ``None`` are left out.

    >>> element("text", "Q", class_="small", data_mark=None, font_size=11)
    '<text class="small" font-size="11">Q</text>'
    """
    given = {
        name.rstrip("_").replace("_", "-"): item for name, item in attributes.items() if item is not None
    }
    written = "".join(f' {name}="{escape(str(value))}"' for name, value in given.items())
    return f"<{tag}{written}/>" if inner is None else f"<{tag}{written}>{inner}</{tag}>"


class Canvas:
    """Collects SVG elements in drawing order. ``selected`` is the path whose choices are outlined."""

    def __init__(self, selected: str | None = None) -> None:
        self._out: list[str] = []
        self.selected = selected

    def __str__(self) -> str:
        return "\n".join(self._out)

    def _add(self, tag: str, inner: str | None = None, /, **attributes: object) -> None:
        self._out.append(element(tag, inner, **attributes))

    def rect(
        self, x: float, y: float, w: float, h: float, cls: str, r: float = 3, mark: str = "", full: str = ""
    ) -> None:
        """Draw a rectangle. ``mark`` names what a page may fill or highlight during a run: A, B, W, gate;
        ``full`` is the full rank and the thickness at it."""
        place = {"x": number(x), "y": number(y), "width": number(w), "height": number(h)}
        self._add(
            "rect",
            class_=cls,
            **place,
            rx=number(r) if r else None,
            data_mark=mark or None,
            data_full=full or None,
        )

    def circle(self, x: float, y: float, r: float, cls: str) -> None:
        self._add("circle", class_=cls, cx=number(x), cy=number(y), r=number(r))

    def path(
        self, points: Sequence[tuple[float, float]], cls: str, closed: bool = False, mark: str = ""
    ) -> None:
        steps = " L".join(f"{number(x)} {number(y)}" for x, y in points)
        self._add("path", class_=cls, data_mark=mark or None, d=f"M{steps}{'Z' if closed else ''}")

    def segments(self, pairs: Sequence[tuple[float, float, float, float]], cls: str) -> None:
        """Draw many straight lines in one element."""
        if pairs:
            steps = "".join(f"M{number(a)} {number(b)}L{number(c)} {number(d)}" for a, b, c, d in pairs)
            self._add("path", class_=cls, d=steps)

    def arrow(self, points: Sequence[tuple[float, float]], cls: str = "flow", head: bool = True) -> None:
        """Draw a line through the points, with an arrowhead at the end if ``head``."""
        if not head:
            self.path(points, cls)
            return
        (px, py), (x, y) = points[-2], points[-1]
        length = max(abs(x - px), abs(y - py)) or 1
        ux, uy = (x - px) / length, (y - py) / length
        bx, by = x - 6 * ux, y - 6 * uy
        self.path([*points[:-1], (bx, by)], cls)
        self.path(
            [(x, y), (bx - 3 * uy, by - 3 * ux), (bx + 3 * uy, by + 3 * ux)], f"{cls}-head", closed=True
        )

    def text(self, x: float, y: float, text: str, size: float, cls: str, anchor: str = "middle") -> None:
        """Draw text; ``y`` is the middle of the line, not its base."""
        self._text(escape(text), x, y, size, cls, None if anchor == "start" else anchor)

    def _text(self, inner: str, x: float, y: float, size: float, cls: str, anchor: str | None) -> None:
        place = {"x": number(x), "y": number(y + 0.35 * size), "font_size": number(size)}
        self._add("text", inner, class_=cls, **place, text_anchor=anchor)

    def symbol(self, x: float, y: float, symbol: str, size: float, cls: str) -> None:
        """Draw a letter with a subscript, written ``l_k``."""
        letter, _, below = symbol.partition("_")
        sub = element("tspan", escape(below), dy=3) if below else ""
        self._text(escape(letter) + sub, x, y, size, cls, "middle")

    def lines(
        self, x: float, cy: float, rows: Sequence[tuple[str, float, str]], anchor: str = "middle"
    ) -> None:
        """Draw lines of text (text, size, class), centred as a block on ``cy``."""
        y = cy - sum(size for _, size, _ in rows) * LINE / 2
        for text, size, cls in rows:
            self.text(x, y + size * LINE / 2, text, size, cls, anchor)
            y += size * LINE

    @contextmanager
    def choice(self, path: str, label: str, box: tuple[float, float, float, float]) -> Iterator[None]:
        """Open a group that can be chosen by pointer and keyboard, outlined around ``box`` (x, y, w, h)."""
        chosen = path == self.selected
        self._out.append(
            f'<g class="choice{" chosen" if chosen else ""}" tabindex="0" role="button" '
            f'aria-pressed="{"true" if chosen else "false"}" aria-label="{escape(label)}" data-path="{escape(path)}">'
            f"<title>{escape(label)}</title>"
        )
        x, y, w, h = box
        self.rect(x - 2.5, y - 2.5, w + 5, h + 5, "ring", 5)
        yield
        self._out.append("</g>")


# ----------------------------------------
# Colours and strokes. Light and dark follow ``color-scheme``, which Streamlit sets with its theme.


_COLOURS = palette.variables(
    trained=palette.TRAINED, trained_light=palette.TRAINED_LIGHT, on_trained=palette.PAGE, frozen=palette.FROZEN,
    edge=palette.EDGE, quantised=palette.QUANTISED, ink=palette.INK, soft=palette.SOFT, line=palette.LINE,
    frame=palette.FRAME,
)  # fmt: skip
_PAPER = f"--paper: var(--st-background-color, {palette.PAGE.css});"

STYLE = beside(__file__, "css/block.css", colours=_COLOURS, paper=_PAPER)


# ----------------------------------------
# The fixed measures of the two layouts, which share their code.


Layout = Literal["wide", "narrow"]


@dataclass(frozen=True)
class Metrics:
    """Lengths in user units; at the layout's natural width one unit is one CSS pixel."""

    layout: Layout
    width: float  # of the picture; the wide one grows if its pieces need more
    trunk: float  # x of the residual stream
    norm: tuple[float, float]  # size of a norm's box
    matrix: tuple[float, float]  # width and height of a matrix of hidden x hidden
    widest: float  # maximum width of a matrix, relative to that
    # room to the right of every matrix for trained parts, reserved even if empty, so that choosing a target moves no
    # box
    lane: float
    strip: float  # thickness of a full-rank strip
    below: float  # room for it under a matrix
    core: float
    gap: float
    name: float
    small: float
    fold: bool  # whether a branch returns to the stream on a second line, right to left

    @property
    def header(self) -> float:
        """Return the room for the title at the frame's top; more above a row of matrices than above a line."""
        return 26 if self.fold else 21

    @property
    def first(self) -> float:
        """Return the x of the first piece on a line, right of the stream: a norm."""
        return self.trunk + 18

    @property
    def bus(self) -> float:
        """Return the x of the vertical line that feeds the parallel matrices."""
        return self.first + self.norm[0] + (5 if self.fold else 6)

    @property
    def column(self) -> float:
        """Return the x of the parallel matrices."""
        return self.bus + (18 if self.fold else 20)


WIDE = Metrics(
    layout="wide", width=530, trunk=29, norm=(34, 24), matrix=(96, 40), widest=1.35, lane=42, strip=12, below=16,
    core=88, gap=10, name=12, small=11, fold=False,
)  # fmt: skip
NARROW = Metrics(
    layout="narrow", width=350, trunk=26, norm=(32, 22), matrix=(86, 36), widest=1.35, lane=38, strip=11, below=15,
    core=84, gap=8, name=11, small=11, fold=True,
)  # fmt: skip
