"""A step as its ranks share it, moving: bars of what each holds, phase after phase.

The drawing goes through a step three times and stops; for those who prefer no motion it stands still from the start,
all phases side by side either way. Its heights are the simulation's bytes.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass

import streamlit as st

from peft_lab.advise.plans.moments import AWAY, MOMENT_KINDS, OFFLOADED, PARTS, PHASES, Drawn, Moment
from peft_lab.core import palette, units
from peft_lab.drawing.svg import element
from peft_lab.ui import web

# ----------------------------------------
# Main memory under the ranks of the drawing: what waits there, and what is copied up and down in a phase.
#
# Bars stand on the same scale as the ranks' own. Dots go with what is copied, as often as there is room for in a
# phase's turn: that they are not layers counted says the sentence beneath.


#: Heights in the drawing: of all bars together, of the least place for one, of the arrows, and what names take.
LANE_ROOM, LEAST_LANE, WAY, NAMES = 150.0, 6.0, 30.0, 18.0
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
        """Return the lane's upper edge."""
        return self.ground + NAMES + WAY


def lane_floor(scale: Scale) -> float:
    """Return where bars in the lane stand."""
    return scale.top + scale.tall


def travels(kind: str, moment: Moment) -> dict[str, str]:
    """Return what goes ``up`` to the ranks and ``down`` to main memory in a phase, by its part."""
    up, down = ("activations", "activations") if kind == AWAY else ("weights", "gradients")
    return {
        way: part
        for way, part, nbytes in (("up", up, moment.brought), ("down", down, moment.taken))
        if nbytes
    }


def lane_told(moment: Moment) -> list[str]:
    """Return what waits and what is copied, with their sizes."""
    copied = [
        f"{units.size(nbytes)} {where}"
        for nbytes, where in ((moment.brought, "copied in"), (moment.taken, "copied out"))
        if nbytes
    ]
    waiting = f"{units.size(moment.waiting)} for each" if moment.waiting else "nothing"
    return [f"{waiting} in main memory", *copied]


def lane_box(scale: Scale, width: float, bars: str) -> str:
    """Return the lane with its bars and its name."""
    name = element("text", "main memory", x=f"{width / 2:g}", y=f"{lane_floor(scale) + 14:g}")
    place = {"x": 0.5, "y": f"{scale.top:g}", "width": f"{width - 1:g}", "height": f"{scale.tall:.2f}"}
    return element("rect", class_="memory", **place, rx=3) + bars + name


def lane_arrows(scale: Scale, middle: float, colours: Mapping[str, str]) -> str:
    """Return an arrow with its dot for each way that something goes. ``middle``: of the rank."""
    both = len(colours) > 1
    top, end = scale.ground + NAMES, scale.top - 2
    made = []
    for way, colour in colours.items():
        x = middle + (0 if not both else -_APART if way == "up" else _APART)
        tip, tail, back = (top, end, _HEAD) if way == "up" else (end, top, -_HEAD)
        arrow = [
            element("path", d=f"M{x:g} {tail:g}V{tip:g}"),
            element("path", d=f"M{x - _HEAD:g} {tip + back:g}L{x:g} {tip:g}L{x + _HEAD:g} {tip + back:g}"),
            element("circle", class_=f"dot {way}", cx=f"{x:g}", cy=f"{tail:g}", r=2.5),
        ]
        made.append(element("g", "".join(arrow), class_=f"way {way}", style=f"color:{colour}"))
    return "".join(made)


def lane_moving(rounds: int, seconds: float) -> str:
    """Return the style of lane and arrows; a dot makes some trips in its phase, a quarter of the round."""
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


MOST = 4  # ranks that are drawn
HEIGHT, WIDTH, GAP = 150, 26, 8
ROUNDS, SECONDS = 3, 8
_COLOURS = {
    "weights": palette.MEMORY["weights"],
    "adapter": palette.MEMORY["adapter"],
    "optimizer": palette.MEMORY["optimizer"],
    "gradients": palette.MEMORY["gradients"],
    "activations": palette.MEMORY["activations"],
    "gathered": palette.MEMORY["quantisation"],
    "rest": palette.MEMORY["other"],
}
#: What the ranks do in a phase, by what is split.
_DOES = {
    "zero_grad": {
        "ddp": "Every rank has all weights and all moments.",
        "zero1": "Every rank has all weights, and its share of the moments.",
        "fsdp2": "Every rank has its share of weights and moments, and nothing more.",
        "tp": "Every rank has its columns or rows of each matrix, and their moments.",
        OFFLOADED: "Shares of weights and moments wait in main memory; a card holds little but what the model put out.",
        AWAY: "Every rank has all weights and all moments.",
    },
    "forward": {
        "ddp": "Each computes its own rows; nothing is sent.", "zero1": "Each computes its own rows; nothing is sent.",
        "fsdp2": "Layer after layer is gathered from all ranks, computes, and is let go.",
        "tp": "All read the same rows; what each has of a layer's output is summed up, and all wait for it.",
        OFFLOADED: "Before a layer computes, each rank copies its share in and all gather it; then it is let go.",
        AWAY: "What the backward pass needs leaves for main memory: the input of each layer, and what the loss reads.",
    },
    "backward": {
        "ddp": "Gradients are averaged over the ranks, bucket by bucket.",
        "zero1": "Gradients are averaged over the ranks, bucket by bucket.",
        "fsdp2": "Layers are gathered again; each rank keeps the sum of its share of the gradients.",
        "tp": "Gradients of what goes into a layer are summed up; those of its matrices stay where these are.",
        OFFLOADED: "Layers are copied in and gathered again; each rank's share of the summed gradients goes back.",
        AWAY: "Layer by layer an input comes back and the layer is computed again. Gradients are averaged.",
    },
    "optimizer": {
        "ddp": "Every rank makes the same update.", "zero1": "Each updates its share and sends the new weights round.",
        "fsdp2": "Each updates its own share; nothing is sent.",
        "tp": "Each updates its own part; only the norm of all gradients is summed up.",
        OFFLOADED: "The processor makes the update in main memory. The cards have nothing to do.",
        AWAY: "Every rank makes the same update.",
    },
}  # fmt: skip

CSS = web.read(
    "ranks.css",
    SECONDS=SECONDS,
    ROUNDS=ROUNDS,
    SECONDS_QUARTER=SECONDS / 4,
    MOVING=lane_moving(ROUNDS, SECONDS),
)

JS = """
export default function ({ data, parentElement }) {
  const host = parentElement.querySelector(".host");
  if (host.drawn !== data.drawing) { host.innerHTML = data.drawing; host.drawn = data.drawing; }
}
"""

_mount = st.components.v2.component("peft_ranks", html='<div class="host"></div>', css=CSS, js=JS)


def does(phase: str, kind: str) -> str:
    """Return what the ranks do in a phase, as a sentence."""
    lines = _DOES[phase]
    return lines.get(kind, lines["fsdp2"])


def drawing(drawn: Drawn) -> str:
    """Return the phases as HTML with an SVG each."""
    scale = _scale(drawn)
    phases = "".join(_phase(drawn, moment, turn, scale) for turn, moment in enumerate(drawn.moments))
    there = [
        part for part in PARTS if any(moment.parts[part] or moment.host.get(part) for moment in drawn.moments)
    ]
    key = "".join(f'<span><i style="background:{_COLOURS[part]}"></i>{PARTS[part]}</span>' for part in there)
    return f'<div class="step">{phases}</div><div class="key">{key}</div>'


def _scale(drawn: Drawn) -> Scale:
    """Return one scale for all: the tallest bar of a rank, and the tallest bar waiting below it."""
    tallest = max(moment.total for moment in drawn.moments)
    waiting = max(moment.waiting for moment in drawn.moments)
    if not waiting:
        return Scale((HEIGHT - 4) / tallest, HEIGHT)
    each = LANE_ROOM / (tallest + waiting)
    return Scale(each, max(tallest * each, LEAST_LANE) + 4, max(waiting * each, LEAST_LANE) + 4)


def _phase(drawn: Drawn, moment: Moment, turn: int, scale: Scale) -> str:
    shown = min(drawn.devices, MOST)
    width = shown * (WIDTH + GAP) + GAP
    whole = MOST * (WIDTH + GAP) + GAP  # few ranks are drawn as large as many, and their names with them
    places = [GAP + rank * (WIDTH + GAP) for rank in range(shown)]
    ground = scale.ground
    bars = "".join(_bar(moment.parts, x, ground, scale.each) for x in places)
    names = "".join(
        element("text", str(rank or "rank 0"), x=x + WIDTH / 2, y=f"{ground + 13:g}")
        for rank, x in enumerate(places)
    )
    title, total = html.escape(PHASES[moment.phase]), units.size(moment.total)
    said = f"{MOMENT_KINDS[drawn.kind]}, {PHASES[moment.phase].lower()}: {total} on each of {drawn.devices} ranks"
    below, more, height = "", "", ground + 18
    if drawn.waits:
        floor = lane_floor(scale)
        waiting = "".join(_bar(moment.host, x, floor, scale.each) for x in places)
        moved = {way: _COLOURS[part] for way, part in travels(drawn.kind, moment).items()}
        below = lane_box(scale, width, waiting) + "".join(
            lane_arrows(scale, x + WIDTH / 2, moved) for x in places
        )
        more = "".join(f'<p class="bytes">{html.escape(line)}</p>' for line in lane_told(moment))
        said = "; ".join([said, *lane_told(moment)])
        height = floor + 20
    view = f"{(width - whole) / 2:g} 0 {whole} {height:g}"
    held = element("g", bars, class_="held", style=f"--ground:{ground:g}px")
    base = element("path", class_="base", d=f"M0 {ground:g}H{width}")
    svg = element("svg", held + base + names + below, viewBox=view, role="img", aria_label=said)
    return (
        f'<section class="phase" style="--turn:{turn}"><h4>{title}</h4>{svg}'
        f'<p class="bytes">{total} on each rank</p>{more}<p>{html.escape(does(moment.phase, drawn.kind))}</p></section>'
    )


def _bar(parts: Mapping[str, int], x: float, ground: float, each: float) -> str:
    made, top = [], ground
    for part in PARTS:
        height = parts.get(part, 0) * each
        if height <= 0:
            continue
        top -= height
        place = {"x": x, "y": f"{top:.2f}", "width": WIDTH, "height": f"{max(height, 0.5):.2f}"}
        told = element("title", f"{PARTS[part]}: {units.size(parts[part])}")
        made.append(element("rect", told, **place, fill=_COLOURS[part]))
    return "".join(made)


def draw(drawn: Drawn, key: str) -> None:
    """Show it."""
    _mount(key=key, data={"drawing": drawing(drawn)})
