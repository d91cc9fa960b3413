"""Main memory under the ranks of the drawing: what waits there, and what is copied up and down in a phase.

Bars stand on the same scale as the ranks' own. Dots go with what is copied, as often as there is room for in a phase's
turn: that they are not layers counted says the sentence beneath.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from peft_lab import units
from peft_lab.plan.moments import AWAY, Moment

#: Heights in the drawing: of all bars together, of the least place for one, of the arrows, and what names take.
ROOM, LEAST, WAY, NAMES = 150.0, 6.0, 30.0, 18.0
_TRIPS, _APART, _HEAD = 4, 5.0, 3.5


@dataclass(frozen=True)
class Scale:
    """Where things stand.

    Attributes:
        each: height of a byte. ground: where the ranks' bars stand. tall: the lane's own height.
    """

    each: float
    ground: float
    tall: float = 0.0

    @property
    def top(self) -> float:
        """Of the lane."""
        return self.ground + NAMES + WAY


def floor(scale: Scale) -> float:
    """Where bars in the lane stand."""
    return scale.top + scale.tall


def travels(kind: str, moment: Moment) -> dict[str, str]:
    """What goes ``up`` to the ranks and ``down`` to main memory in a phase, by its part."""
    up, down = ("activations", "activations") if kind == AWAY else ("weights", "gradients")
    return {
        way: part
        for way, part, nbytes in (("up", up, moment.brought), ("down", down, moment.taken))
        if nbytes
    }


def told(moment: Moment) -> list[str]:
    """What waits and what is copied, with their sizes."""
    copied = [
        f"{units.size(nbytes)} {where}"
        for nbytes, where in ((moment.brought, "copied in"), (moment.taken, "copied out"))
        if nbytes
    ]
    waiting = f"{units.size(moment.waiting)} for each" if moment.waiting else "nothing"
    return [f"{waiting} in main memory", *copied]


def box(scale: Scale, width: float, bars: str) -> str:
    """The lane with its bars and its name."""
    ground = floor(scale)
    return (
        f'<rect class="memory" x="0.5" y="{scale.top:g}" width="{width - 1:g}" height="{scale.tall:.2f}" rx="3"/>'
        f'{bars}<text x="{width / 2:g}" y="{ground + 14:g}">main memory</text>'
    )


def arrows(scale: Scale, middle: float, colours: Mapping[str, str]) -> str:
    """One for each way that something goes, with its dot. ``middle``: of the rank."""
    both = len(colours) > 1
    top, end = scale.ground + NAMES, scale.top - 2
    made = []
    for way, colour in colours.items():
        x = middle + (0 if not both else -_APART if way == "up" else _APART)
        tip, tail, back = (top, end, _HEAD) if way == "up" else (end, top, -_HEAD)
        made.append(
            f'<g class="way {way}" style="color:{colour}"><path d="M{x:g} {tail:g}V{tip:g}"/>'
            f'<path d="M{x - _HEAD:g} {tip + back:g}L{x:g} {tip:g}L{x + _HEAD:g} {tip + back:g}"/>'
            f'<circle class="dot {way}" cx="{x:g}" cy="{tail:g}" r="2.5"/></g>'
        )
    return "".join(made)


def moving(rounds: int, seconds: float) -> str:
    """The style of lane and arrows. A dot makes some trips in its phase's turn, a quarter of the round."""
    each = 25 / _TRIPS
    length = WAY - 2
    frames = {
        way: "".join(
            f"{trip * each:g}% {{ transform: translateY(0); }} "
            f"{(trip + 1) * each - 0.01:g}% {{ transform: translateY({sign}{length:g}px); }} "
            for trip in range(_TRIPS)
        )
        for way, sign in (("up", "-"), ("down", ""))
    }
    return (
        ".phase .memory { fill: color-mix(in srgb, currentColor 7%, transparent); stroke: currentColor; "
        "stroke-opacity: 0.35; stroke-dasharray: 3 2; }\n"
        ".phase .way path { fill: none; stroke: currentColor; stroke-width: 1.5; }\n"
        ".phase .dot { fill: currentColor; }\n"
        + "".join(
            f"@keyframes {way}wards {{ {found} 25%, 100% {{ transform: translateY(0); }} }}\n"
            f".phase .dot.{way} {{ animation: {way}wards {seconds}s linear {rounds}; "
            f"animation-delay: calc(var(--turn) * {seconds / 4}s); }}\n"
            for way, found in frames.items()
        )
    )
