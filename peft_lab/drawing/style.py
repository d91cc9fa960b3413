"""Colours and strokes. Light and dark follow ``color-scheme``, which Streamlit sets with its theme."""

from __future__ import annotations

from peft_lab import palette

_COLOURS = palette.variables(
    trained=palette.TRAINED, trained_light=palette.TRAINED_LIGHT, on_trained=palette.PAGE, frozen=palette.FROZEN,
    edge=palette.EDGE, quantised=palette.QUANTISED, ink=palette.INK, soft=palette.SOFT, line=palette.LINE,
    frame=palette.FRAME,
)  # fmt: skip
_PAPER = f"--paper: var(--st-background-color, {palette.PAGE.css});"

STYLE = (
    f".peft-block {{\n  {_COLOURS}\n  {_PAPER}\n"
    """  display: block; width: 100%; height: auto; color: var(--ink);
}
.peft-block text { fill: var(--ink); font-family: var(--st-font, "Source Sans", "Source Sans 3", sans-serif); }
.peft-block .name, .peft-block .small { font-family: var(--st-code-font, "Source Code Pro", monospace); }
.peft-block .name { font-weight: 600; }
.peft-block .small { font-weight: 400; }
.peft-block .note { fill: var(--soft); }
.peft-block .strong { font-weight: 600; }
.peft-block .accent { fill: var(--trained); }
.peft-block text.on-trained { fill: var(--on-trained); }
.peft-block .haloed { paint-order: stroke; stroke: var(--frozen); stroke-width: 4px; stroke-linejoin: round; }
.peft-block .frame { fill: none; stroke: var(--frame); stroke-width: 1.5; }
.peft-block .frame.card { fill: var(--paper); stroke: var(--edge); stroke-width: 1; }
.peft-block .frame.mixture { stroke: var(--edge); stroke-dasharray: 4 3; stroke-width: 1.25; }
.peft-block .box { stroke-width: 1; }
.peft-block .plain { fill: var(--paper); stroke: var(--edge); }
.peft-block .frozen { fill: var(--frozen); stroke: var(--edge); }
.peft-block .quantised { stroke: var(--quantised); }
.peft-block .trained { fill: var(--trained); stroke: none; }
.peft-block .trained.light { fill: var(--trained-light); stroke: var(--trained); }
.peft-block .cell { stroke: none; }
.peft-block .gate { fill: var(--paper); stroke: var(--trained); stroke-width: 1.5; }
.peft-block .hatch { fill: none; stroke: var(--quantised); stroke-width: 1; stroke-opacity: .4; }
.peft-block .constant { fill: var(--quantised); stroke: var(--quantised); stroke-width: 1; }
.peft-block .constant.hollow { fill: var(--paper); }
.peft-block .flow { fill: none; stroke: var(--line); stroke-width: 1.25; }
.peft-block .stream { fill: none; stroke: var(--line); stroke-width: 2.5; }
.peft-block .flow-head, .peft-block .stream-head { fill: var(--line); }
.peft-block .making { fill: none; stroke: var(--trained); stroke-width: 1.25; stroke-dasharray: 3 2.5; }
.peft-block .making-head { fill: var(--trained); }
.peft-block .joint { fill: var(--paper); stroke: var(--line); stroke-width: 1.25; }
.peft-block .sign { fill: none; stroke: var(--ink); stroke-width: 1.25; }
.peft-block .lane { fill: none; stroke: none; pointer-events: none; }
.peft-block .ring { fill: none; stroke: none; pointer-events: all; }
.peft-block .choice { cursor: pointer; outline: none; }
.peft-block .choice:hover > .ring { stroke: var(--edge); stroke-width: 1.25; }
.peft-block .choice:focus-visible > .ring { stroke: var(--quantised); stroke-width: 2; }
.peft-block .choice.chosen > .ring { stroke: var(--ink); stroke-width: 1.75; }
"""
)
