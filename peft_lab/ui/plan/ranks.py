"""A step as its ranks share it, moving: bars of what each holds, phase after phase.

The drawing goes through a step three times and stops; for those who prefer no motion it stands still from the start,
all phases side by side either way. Its heights are the simulation's bytes.
"""

from __future__ import annotations

import html

import streamlit as st

from peft_lab import palette, units
from peft_lab.plan.moments import KINDS, PARTS, PHASES, Drawn, Moment

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
    },
    "forward": {
        "ddp": "Each computes its own rows; nothing is sent.", "zero1": "Each computes its own rows; nothing is sent.",
        "fsdp2": "Layer after layer is gathered from all ranks, computes, and is let go.",
        "tp": "All read the same rows; what each has of a layer's output is summed up, and all wait for it.",
    },
    "backward": {
        "ddp": "Gradients are averaged over the ranks, bucket by bucket.",
        "zero1": "Gradients are averaged over the ranks, bucket by bucket.",
        "fsdp2": "Layers are gathered again; each rank keeps the sum of its share of the gradients.",
        "tp": "Gradients of what goes into a layer are summed up; those of its matrices stay where these are.",
    },
    "optimizer": {
        "ddp": "Every rank makes the same update.", "zero1": "Each updates its share and sends the new weights round.",
        "fsdp2": "Each updates its own share; nothing is sent.",
        "tp": "Each updates its own part; only the norm of all gradients is summed up.",
    },
}  # fmt: skip

CSS = f"""
.step {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 0.75rem;
  font-family: var(--st-font); color: var(--st-text-color); font-size: 0.85rem; }}
.phase {{ border: 1px solid color-mix(in srgb, currentColor 22%, transparent); border-radius: 0.5rem;
  padding: 0.6rem 0.7rem; min-width: 0; }}
.phase h4 {{ margin: 0; font-size: 0.95rem; font-weight: 600; }}
.phase svg {{ width: 100%; height: auto; display: block; margin: 0.4rem 0; max-width: 190px; }}
.phase p {{ margin: 0.2rem 0 0; line-height: 1.35; }}
.phase .bytes {{ font-variant-numeric: tabular-nums; opacity: 0.8; }}
.base {{ stroke: currentColor; opacity: 0.4; }}
.phase text {{ fill: currentColor; font-size: 10px; text-anchor: middle; opacity: 0.75; }}
.key {{ display: flex; flex-wrap: wrap; gap: 0.2rem 1rem; margin-top: 0.6rem; }}
.key i {{ display: inline-block; width: 0.75em; height: 0.75em; border-radius: 2px; margin-right: 0.35em; }}
@keyframes now {{
  0%, 24% {{ border-color: var(--st-primary-color); box-shadow: 0 0 0 1px var(--st-primary-color); }}
  26%, 100% {{ border-color: color-mix(in srgb, currentColor 22%, transparent); box-shadow: none; }}
}}
@keyframes grow {{ 0% {{ transform: scaleY(0.15); }} 12%, 100% {{ transform: scaleY(1); }} }}
.phase {{ animation: now {SECONDS}s ease-out {ROUNDS}; animation-delay: calc(var(--turn) * {SECONDS / 4}s); }}
.phase .held {{ transform-origin: 0 {HEIGHT}px; animation: grow {SECONDS}s ease-out {ROUNDS};
  animation-delay: calc(var(--turn) * {SECONDS / 4}s); }}
@media (prefers-reduced-motion: reduce) {{ .phase, .phase .held {{ animation: none; }} }}
"""

JS = """
export default function ({ data, parentElement }) {
  const host = parentElement.querySelector(".host");
  if (host.drawn !== data.drawing) { host.innerHTML = data.drawing; host.drawn = data.drawing; }
}
"""

_mount = st.components.v2.component("peft_ranks", html='<div class="host"></div>', css=CSS, js=JS)


def does(phase: str, kind: str) -> str:
    """What the ranks do in a phase, as a sentence."""
    lines = _DOES[phase]
    return lines.get(kind, lines["fsdp2"])


def drawing(drawn: Drawn) -> str:
    """The phases as HTML with an SVG each."""
    tallest = max(moment.total for moment in drawn.moments)
    phases = "".join(_phase(drawn, moment, turn, tallest) for turn, moment in enumerate(drawn.moments))
    there = [part for part in PARTS if any(moment.parts[part] for moment in drawn.moments)]
    key = "".join(f'<span><i style="background:{_COLOURS[part]}"></i>{PARTS[part]}</span>' for part in there)
    return f'<div class="step">{phases}</div><div class="key">{key}</div>'


def _phase(drawn: Drawn, moment: Moment, turn: int, tallest: int) -> str:
    shown = min(drawn.devices, MOST)
    width = shown * (WIDTH + GAP) + GAP
    whole = MOST * (WIDTH + GAP) + GAP  # few ranks are drawn as large as many, and their names with them
    view = f"{(width - whole) / 2:g} 0 {whole} {HEIGHT + 18}"
    bars = "".join(_bar(moment, GAP + rank * (WIDTH + GAP), tallest) for rank in range(shown))
    names = "".join(
        f'<text x="{GAP + rank * (WIDTH + GAP) + WIDTH / 2}" y="{HEIGHT + 13}">rank {rank}</text>'
        for rank in range(shown)
    )
    title, total = html.escape(PHASES[moment.phase]), units.size(moment.total)
    said = html.escape(
        f"{KINDS[drawn.kind]}, {PHASES[moment.phase].lower()}: {total} on each of {drawn.devices} ranks"
    )
    return (
        f'<section class="phase" style="--turn:{turn}"><h4>{title}</h4>'
        f'<svg viewBox="{view}" role="img" aria-label="{said}"><g class="held">{bars}</g>'
        f'<path class="base" d="M0 {HEIGHT}H{width}"/>{names}</svg>'
        f'<p class="bytes">{total} on each rank</p><p>{html.escape(does(moment.phase, drawn.kind))}</p></section>'
    )


def _bar(moment: Moment, x: int, tallest: int) -> str:
    made, top = [], float(HEIGHT)
    for part in PARTS:
        height = moment.parts[part] / tallest * (HEIGHT - 4)
        if height <= 0:
            continue
        top -= height
        made.append(
            f'<rect x="{x}" y="{top:.2f}" width="{WIDTH}" height="{max(height, 0.5):.2f}" fill="{_COLOURS[part]}">'
            f"<title>{PARTS[part]}: {units.size(moment.parts[part])}</title></rect>"
        )
    return "".join(made)


def draw(drawn: Drawn, key: str) -> None:
    """Show it."""
    _mount(key=key, data={"drawing": drawing(drawn)})
