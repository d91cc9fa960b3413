"""A small SVG writer: shapes with classes, no colours (those are in the style) and no ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape

from peft_lab.drawing.measure import LINE


def number(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".") if value % 1 else f"{value:.0f}"


class Canvas:
    """Collects SVG elements in drawing order. ``selected`` is the path whose choices are outlined."""

    def __init__(self, selected: str | None = None) -> None:
        self._out: list[str] = []
        self.selected = selected

    def __str__(self) -> str:
        return "\n".join(self._out)

    def rect(
        self, x: float, y: float, w: float, h: float, cls: str, r: float = 3, mark: str = "", full: str = ""
    ) -> None:
        """``mark`` names what a page may fill or let glow as a run goes on: A, B, W, gate;
        ``full`` what its thickness grows with: the full rank and the thickness at it."""
        corners = f' rx="{number(r)}"' if r else ""
        corners += f' data-mark="{mark}"' if mark else ""
        corners += f' data-full="{full}"' if full else ""
        self._out.append(
            f'<rect class="{cls}" x="{number(x)}" y="{number(y)}" width="{number(w)}" height="{number(h)}"{corners}/>'
        )

    def circle(self, x: float, y: float, r: float, cls: str) -> None:
        self._out.append(f'<circle class="{cls}" cx="{number(x)}" cy="{number(y)}" r="{number(r)}"/>')

    def path(
        self, points: Sequence[tuple[float, float]], cls: str, closed: bool = False, mark: str = ""
    ) -> None:
        steps = " L".join(f"{number(x)} {number(y)}" for x, y in points)
        named = f' data-mark="{mark}"' if mark else ""
        self._out.append(f'<path class="{cls}"{named} d="M{steps}{"Z" if closed else ""}"/>')

    def segments(self, pairs: Sequence[tuple[float, float, float, float]], cls: str) -> None:
        """Many straight lines in one element."""
        if pairs:
            steps = "".join(f"M{number(a)} {number(b)}L{number(c)} {number(d)}" for a, b, c, d in pairs)
            self._out.append(f'<path class="{cls}" d="{steps}"/>')

    def arrow(self, points: Sequence[tuple[float, float]], cls: str = "flow", head: bool = True) -> None:
        """A line through the points, ending in an arrowhead."""
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
        """``y`` is the middle of the line, not its base."""
        place = "" if anchor == "start" else f' text-anchor="{anchor}"'
        base = y + 0.35 * size
        at = f'x="{number(x)}" y="{number(base)}" font-size="{number(size)}"{place}'
        self._out.append(f'<text class="{cls}" {at}>{escape(text)}</text>')

    def symbol(self, x: float, y: float, symbol: str, size: float, cls: str) -> None:
        """A letter with a subscript, written ``l_k``."""
        letter, _, below = symbol.partition("_")
        sub = f'<tspan dy="3">{escape(below)}</tspan>' if below else ""
        self._out.append(
            f'<text class="{cls}" x="{number(x)}" y="{number(y + 0.35 * size)}" font-size="{number(size)}" '
            f'text-anchor="middle">{escape(letter)}{sub}</text>'
        )

    def lines(
        self, x: float, cy: float, rows: Sequence[tuple[str, float, str]], anchor: str = "middle"
    ) -> None:
        """Lines of text (text, size, class), centred as a block on ``cy``."""
        y = cy - sum(size for _, size, _ in rows) * LINE / 2
        for text, size, cls in rows:
            self.text(x, y + size * LINE / 2, text, size, cls, anchor)
            y += size * LINE

    @contextmanager
    def choice(self, path: str, label: str, box: tuple[float, float, float, float]) -> Iterator[None]:
        """A group that can be chosen by pointer and keyboard; ``box`` (x, y, w, h) is what the outline goes around."""
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
