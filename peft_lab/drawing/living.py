"""The component's single ES module, joined from the files in ``js`` without a build step or downloads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from peft_lab.core import palette
from peft_lab.drawing.trajectory.format import Part, Trajectory
from peft_lab.methods import get_method

#: In dependency order: a file uses those before it.
MODULE_FILES = (
    "numbers.js", "recorded.js", "lanes.js", "motion.js", "marks.js", "player.js", "panels.js", "details.js",
    "handles.js", "block.js",
)  # fmt: skip
_IMPORT = re.compile(r"^import [^;]+;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)


@cache
def living_module() -> str:
    """Return all files as one module, whose default export mounts the component.

    The files import each other by name, for browsers and editors; within one module the names need no import.
    """
    folder = files(__package__) / "js"
    parts = [(folder / name).read_text(encoding="utf-8") for name in MODULE_FILES]
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", part)) for part in parts)


# ----------------------------------------
# The living block's initial HTML; ``js/block.js`` fills it.


TINTS = ("forward", "backward", "trained")
LIVING_HTML = (
    '<div class="host"><p class="words"></p><p class="spoken" aria-live="polite"></p>'
    '<div class="tools" hidden></div>'
    f'<div class="tints">{"".join(f"""<span class="tint-{name}"></span>""" for name in TINTS)}</div>'
    '<div class="pictures"><div class="wide"></div><div class="narrow"></div><canvas class="motion"></canvas></div>'
    '<div class="under" hidden></div><div class="panel" role="status" hidden></div></div>'
)


# ----------------------------------------
# A recorded trajectory reduced to what the browser draws.


def sent(trajectory: Trajectory, live: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return a trajectory as plain data for ``js/recorded.js``.

    Args:
        live: steps after the trajectory's last one while its run continues: ``{"step": 12, "loss": 0.4}`` each.
    """
    loss = list(trajectory.curve.loss)
    for event in sorted(live, key=lambda one: one["step"]):
        if event["step"] == len(loss) + 1:
            loss.append(event["loss"])
    example, merged = trajectory.example, _merge(trajectory)
    # Answers are written beside the training and may arrive after its last step.
    come = (len(trajectory.steps), len(loss), len(trajectory.answers), bool(merged), trajectory.ended)
    return {
        "id": ":".join(map(str, (trajectory.run, *come))),
        "run": trajectory.run,
        "label": f"{_setting(trajectory)}, {trajectory.label}",
        "ended": trajectory.ended,
        "total": int(trajectory.spec.get("steps") or trajectory.steps[-1]),
        "layers": trajectory.model.layers,
        "steps": trajectory.steps,
        "curve": {"loss": loss},
        "parts": [_part(part) for part in trajectory.parts],
        "stream": {"moved": trajectory.stream.moved, "gradient": trajectory.stream.gradient},
        "answers": [
            {"step": answer.step, "text": answer.text, "score": answer.score} for answer in trajectory.answers
        ],
        "question": example.text if example else "",
        "merge": merged,
    }


_TOLD = {"r": "r = {}", "bottleneck": "m = {}", "num_virtual_tokens": "{} virtual tokens"}


def _setting(trajectory: Trajectory) -> str:
    """Return ``LoRA on SmolLM2-135M with r = 8``: the learner may have changed the knobs since."""
    spec, values = get_method(trajectory.method), trajectory.spec.get("values", {})
    told = [words.format(values[name]) for name, words in _TOLD.items() if name in values]
    return f"{spec.title} on {trajectory.model.title}{' with ' if told else ''}{', '.join(told)}"


def _part(part: Part) -> dict[str, Any]:
    at = part.path if part.layer is None else part.path.replace(f".{part.layer}.", ".{}.", 1)
    return {
        "at": at,
        "name": _name(part),
        "layer": part.layer,
        "slot": part.slot,
        "kind": part.kind,
        "share": part.share,
        "gradient": part.gradient,
        "change": part.change,
        "spectrum": part.spectrum,
        "tensors": part.tensors,
    }


def _name(part: Part) -> str:
    if part.kind in ("low_rank", "gate", "bias"):
        return part.slot
    return _KINDS[part.kind] if part.slot == "tokens" else f"{part.slot} {_KINDS[part.kind]}"


_KINDS = {
    "columns": "prefix", "cells": "soft tokens", "bottleneck": "adapter", "encoder": "encoder",
    "trainable": "weights", "quantised": "weights",
}  # fmt: skip


def _merge(trajectory: Trajectory) -> str:
    """Return what merging costs, measured on the run's example; empty if it was not measured."""
    found = trajectory.notes.get("merge")
    if not isinstance(found, list):
        return ""
    said = [
        f"{row['dtype']}: outputs differ by at most {row['max_difference']:.2g}, the largest is {row['max_logit']:.2g}"
        for row in found
    ]
    return f"W + BA·α/r in one matrix, measured on the example. {'; '.join(said)}." if said else ""


# ----------------------------------------
# The living block's CSS. That of the drawing itself is in ``peft_lab/drawing/svg.py``.


NARROW_BELOW = 450  # CSS pixels: below this the wide picture's text would be smaller than 9.5 px
BESIDE_FROM = 620  # from this width the answers are beside the curve

_COLOURS = palette.variables(
    forward=palette.FORWARD, backward=palette.BACKWARD, trained=palette.TRAINED, trained_light=palette.TRAINED_LIGHT,
    frozen=palette.FROZEN, edge=palette.EDGE, soft=palette.SOFT, ink=palette.INK, frame=palette.FRAME,
    measured=palette.MEASURED, panel=palette.PANEL, paper=palette.PAGE,
)  # fmt: skip

LIVING_CSS = f"""
.host {{ {_COLOURS} container-type: inline-size; width: 100%; position: relative;
  font-family: var(--st-font); color: var(--st-text-color); font-size: 0.875rem; line-height: 1.4; }}
.host [hidden] {{ display: none !important; }}
.narrow {{ display: none; }}
.narrow > svg, .wide > svg {{ margin: 0 auto; }}
.wide > svg {{ max-width: 680px; }}
.narrow > svg {{ max-width: 400px; }}
@container (max-width: {NARROW_BELOW}px) {{ .narrow {{ display: block; }} .wide {{ display: none; }} }}
.panel {{ position: absolute; z-index: 5; box-sizing: border-box; width: min(27rem, 100%); max-height: 20rem;
  overflow: auto;
  padding: 0.6rem 0.75rem; border: 1px solid var(--st-border-color); border-radius: 0.5rem; font-size: 0.84rem;
  background: var(--st-background-color); box-shadow: 0 6px 24px {palette.faint(palette.BLACK, 0.22)}; }}
.panel h4 {{ margin: 0 2rem 0.35rem 0; font-size: 0.84rem; font-weight: 600; overflow-wrap: anywhere;
  font-family: var(--st-code-font); }}
.panel p {{ margin: 0; }}
.panel table {{ border-collapse: collapse; width: 100%; }}
.panel th, .panel td {{ padding: 0.2rem 0.5rem 0.2rem 0; text-align: left; vertical-align: top; font-weight: 400; }}
.panel thead th {{ font-weight: 600; border-bottom: 1px solid var(--st-border-color); }}
.panel tbody th {{ font-family: var(--st-code-font); overflow-wrap: anywhere; }}
.panel .n {{ text-align: right; padding-right: 0; white-space: nowrap; font-variant-numeric: tabular-nums; }}
.panel button {{ all: unset; position: absolute; top: 0.3rem; right: 0.4rem; padding: 0.15rem 0.45rem; cursor: pointer;
  border-radius: 0.3rem; font-size: 1rem; line-height: 1.2; }}
.panel button:hover {{ background: var(--st-secondary-background-color); }}
.panel button:focus-visible {{ outline: 2px solid var(--st-primary-color); }}
.words, .spoken {{ position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  white-space: nowrap; }}
"""

MOTION = """
.pictures { position: relative; margin-inline: calc(-1 * var(--peft-block-out, 0px)); }
.motion { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; }
.tints { position: absolute; width: 0; height: 0; overflow: hidden; }
.tint-forward { color: var(--forward); } .tint-backward { color: var(--backward); }
.tint-trained { color: var(--trained); }
.host .peft-block .to-fill { fill: var(--paper); stroke: var(--trained); stroke-width: 1; }
.filled { fill: var(--trained); }
.choice.gone :is(rect, path, line, polygon) { opacity: 0.18; transition: opacity 600ms; }
.choice.gone text { fill: var(--soft) !important; } /* what is gone can still be read */
.choice.unpacked > .hatch { stroke-opacity: 0.08; }
.choice [data-mark], .filled { transition: transform 700ms, opacity 700ms, filter 200ms; }
.choice > .trained:not([data-mark]) { transition: filter 200ms; }
.host .peft-block .choice .merged { fill: var(--trained-light); stroke: var(--trained); }
@media (prefers-reduced-motion: reduce) { .host * { transition: none !important; } }
"""

UNDER = f"""
.under {{ display: grid; gap: 0.6rem; margin-top: 0.5rem; }}
.host:not([data-show~="layers"]) .layers, .host:not([data-show~="curve"]) .curve,
.host:not([data-show~="answers"]) .answers, .host:not([data-show~="numbers"]) .numbers,
.host:not([data-show~="phases"]) .phases {{ display: none; }}
.host[data-size="small"] .under > :not(.run-head) {{ display: none; }}
.under button {{ all: unset; cursor: pointer; box-sizing: border-box; }}
.under button:focus-visible, .under [tabindex]:focus-visible {{ outline: 2px solid var(--st-primary-color);
  outline-offset: 2px; }}
.under button:disabled {{ opacity: 0.4; cursor: default; }}
.phases {{ display: flex; gap: 0.35rem; flex-wrap: wrap; }}
.phases .phase {{ padding: 0.1rem 0.65rem; border-radius: 1rem; border: 1px solid var(--frame); color: var(--soft);
  font-size: 0.8rem; min-height: 1.6rem; --own: var(--forward); }}
.phases .backward {{ --own: var(--backward); }} .phases .update {{ --own: var(--trained); }}
.phases .now {{ background: var(--own); border-color: var(--own); color: var(--paper); font-weight: 600; }}
.layers-title {{ padding-bottom: 3px; }}
.layers-ends {{ padding-top: 3px; }}
.layers-title, .layers-ends, .steps-ends, .curve-top, .run-label {{ color: var(--soft); font-size: 0.78rem; }}
.layers-ends, .steps-ends {{ display: flex; justify-content: space-between; font-variant-numeric: tabular-nums; }}
.layers-track {{ display: flex; gap: 2px; height: 20px; cursor: pointer; touch-action: none; border-radius: 3px;
  --own: var(--trained); }}
.layers-track.backward {{ --own: var(--backward); }}
.layer {{ flex: 1 1 0; min-width: 1px; border-radius: 2px;
  background: color-mix(in oklab, var(--own) var(--depth, 0%), var(--frozen)); }}
.layer.none {{ background: repeating-linear-gradient(45deg, transparent 0 3px, var(--frame) 3px 5px); }}
.layer.here {{ outline: 2px solid var(--ink); outline-offset: 1px; }}
.run-head {{ display: flex; align-items: center; gap: 0.6rem; }}
.run-heading {{ flex: 1; display: flex; flex-wrap: wrap; gap: 0 0.5rem; align-items: baseline; min-width: 0; }}
.run-step {{ font-variant-numeric: tabular-nums; }}
.badge {{ font-size: 0.72rem; font-weight: 600; padding: 0 0.45rem; border-radius: 0.6rem; color: var(--measured);
  background: color-mix(in srgb, var(--measured) {palette.SOURCE_TINT}%, transparent); }}
.under .play {{ width: 44px; height: 44px; border-radius: 50%; background: var(--st-primary-color); flex: none;
  display: grid; place-items: center; }}
.play::before {{ content: ""; width: 14px; height: 16px; margin-left: 3px; background: var(--paper);
  clip-path: polygon(0 0, 100% 50%, 0 100%); }}
.play.playing::before {{ margin: 0;
  clip-path: polygon(0 0, 36% 0, 36% 100%, 64% 100%, 64% 0, 100% 0, 100% 100%, 0 100%); }}
.run-moves {{ display: flex; gap: 0.25rem; }}
.under .small-button {{ min-width: 34px; height: 34px; text-align: center; border: 1px solid var(--frame);
  border-radius: 0.4rem; font-size: 0.8rem; display: grid; place-items: center; }}
.back::before, .forth::before {{ content: ""; width: 9px; height: 11px; background: currentColor;
  clip-path: polygon(0 0, 100% 50%, 0 100%); }}
.back::before {{ transform: scaleX(-1); }}
.run-columns {{ display: grid; gap: 0.8rem; grid-template-columns: minmax(0, 1fr); }}
@container (min-width: {BESIDE_FROM}px) {{ .run-columns {{ grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); }} }}
.curve {{ position: relative; padding: 0 10px; }}
.curve > svg {{ display: block; width: 100%; height: 84px; overflow: visible; cursor: pointer; }}
.curve-top {{ display: block; }}
.curve-line {{ fill: none; stroke: var(--trained); stroke-width: 2; vector-effect: non-scaling-stroke;
  stroke-linejoin: round; }}
.curve-floor {{ stroke: var(--frame); vector-effect: non-scaling-stroke; }}
.curve-now {{ stroke: var(--trained); stroke-dasharray: 3 3; vector-effect: non-scaling-stroke; }}
.to-come {{ fill: var(--panel); }}
.steps {{ position: relative; height: 24px; cursor: pointer; touch-action: none; border-radius: 12px; }}
.steps::before, .steps-bar {{ content: ""; position: absolute; left: 0; top: 10px; height: 4px; border-radius: 2px;
  background: var(--frame); width: 100%; }}
.steps-bar {{ background: var(--trained); }}
.steps-knob {{ position: absolute; top: 3px; width: 18px; height: 18px; margin-left: -9px; box-sizing: border-box;
  border-radius: 50%; background: var(--paper); border: 3px solid var(--trained); }}
.answers {{ display: grid; gap: 0.4rem; align-content: start; }}
.answers p {{ margin: 0; }}
.question {{ color: var(--soft); font-size: 0.8rem; overflow-wrap: anywhere; }}
.answer {{ padding: 0.35rem 0.6rem; border-radius: 0.5rem; background: var(--panel);
  border-left: 3px solid var(--edge); }}
.answer b {{ font-size: 0.78rem; font-weight: 600; }}
.answer p {{ font-family: var(--st-code-font); font-size: 0.8rem; overflow-wrap: anywhere; white-space: pre-wrap;
  max-height: 7.5em; overflow: auto; }}
.answer.now {{ border-left-color: var(--trained);
  background: color-mix(in srgb, var(--trained) 8%, transparent); }}
.answer.now.right b {{ color: var(--measured); }}
.numbers {{ border-collapse: collapse; width: 100%; font-size: 0.78rem; font-variant-numeric: tabular-nums; }}
.numbers th {{ font-weight: 400; color: var(--soft); text-align: right; padding: 0 0.4rem 0 0; }}
.numbers tbody th {{ text-align: left; color: var(--trained); font-family: var(--st-code-font); }}
.numbers td {{ text-align: right; padding: 0 0.4rem 0 0; }}
.numbers .bars {{ width: 64px; height: 14px; vertical-align: middle; }}
.numbers .bars path {{ fill: var(--trained); }}
.under .merge {{ justify-self: start; padding: 0.25rem 0.8rem; border: 1px solid var(--trained); border-radius: 0.5rem;
  color: var(--trained); }}
.merged-words {{ margin: 0; font-size: 0.8rem; }}
.pictures-of-part {{ display: flex; gap: 0.6rem; flex-wrap: wrap; margin-top: 0.4rem; }}
.pictures-of-part figure {{ margin: 0; flex: 1 1 8rem; }}
.pictures-of-part figcaption {{ font-size: 0.75rem; color: var(--soft); }}
.heatmap {{ width: 100%; max-height: 9rem; image-rendering: pixelated; border: 1px solid var(--frame); }}
"""

TOOLS = """
.tools { display: flex; flex-wrap: wrap; gap: 0.5rem; align-items: center; margin-bottom: 0.4rem; }
.grips { display: flex; gap: 0.4rem; flex-wrap: wrap; }
.grip, .tools .edit { all: unset; box-sizing: border-box; min-height: 1.9rem; padding: 0.2rem 0.7rem; cursor: pointer;
  border: 1px solid var(--trained); border-radius: 1rem; color: var(--trained); font-size: 0.82rem;
  font-variant-numeric: tabular-nums; }
.grip, .tools .edit { display: inline-flex; align-items: center; }
.grip { cursor: ew-resize; touch-action: none; user-select: none; }
.grip::after { content: "↔"; content: "↔" / ""; margin-left: 0.4rem; }
.grip:focus-visible, .tools .edit:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 2px; }
.tools .edit { border-color: var(--edge); color: inherit; }
.editing .tools .edit { background: var(--trained); border-color: var(--trained); color: var(--paper); }
.count { margin-left: auto; font-variant-numeric: tabular-nums; font-weight: 600; color: var(--trained); }
.editing .choice.offered > [data-mark="W"] { stroke: var(--trained); stroke-width: 1.5; stroke-dasharray: 4 3; }
.editing .choice:not(.offered) { cursor: default; }
@media (max-width: 640px) {
  .grip, .tools .edit, .under .phase, .under .small-button, .under .merge { min-height: 44px; min-width: 44px; }
  .under .phase { display: inline-flex; align-items: center; border-radius: 22px; padding-inline: 0.9rem; }
  .steps, .layers-track { position: relative; }
  .steps::after, .layers-track::after { content: ""; position: absolute; inset: -12px 0; }
}
.choice [data-mark="A"], .choice [data-mark="A"] + .filled { cursor: ns-resize; touch-action: none; }
.choice [data-mark="B"], .choice [data-mark="B"] + .filled { cursor: ew-resize; touch-action: none; }
"""
