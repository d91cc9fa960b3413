"""Build the living block: its one ES module, joined from the files in ``js``, its HTML, its CSS and its data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from peft_lab.core import palette
from peft_lab.core.disk import beside
from peft_lab.core.field import is_read
from peft_lab.drawing.trajectory.format import RecordedPart, Trajectory
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
    """Return all files as one module, whose default export mounts the component. Files import each other by name, for
    browsers and editors; within one module the names need no import."""
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
    """Return a trajectory as plain data for ``js/recorded.js``. ``live``: steps after the trajectory's last one while
    its run continues: ``{"step": 12, "loss": 0.4}`` each."""
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
        "stream": dict(vars(trajectory.stream)),
        "answers": [dict(vars(answer)) for answer in trajectory.answers],
        "question": example.text if example else "",
        "merge": merged,
    }


_SHOWN = {"r": "r = {}", "bottleneck": "m = {}", "num_virtual_tokens": "{} virtual tokens"}


def _setting(trajectory: Trajectory) -> str:
    """Return the run's settings: ``LoRA on SmolLM2-135M with r = 8``. The learner may have changed the knobs since."""
    spec, values = get_method(trajectory.method), trajectory.spec.get("values", {})
    settings = [words.format(values[name]) for name, words in _SHOWN.items() if name in values]
    if spec.text_knob in values and is_read(spec.knob(spec.text_knob), spec.knobs, values):
        settings.append(f"started from “{values[spec.text_knob]}”")
    return f"{spec.title} on {trajectory.model.title}{' with ' if settings else ''}{', '.join(settings)}"


def _part(part: RecordedPart) -> dict[str, Any]:
    at = part.path if part.layer is None else part.path.replace(f".{part.layer}.", ".{}.", 1)
    kind = _KINDS.get(part.kind, "")  # others are named by their slot alone
    name = kind if kind and part.slot == "tokens" else f"{part.slot} {kind}".rstrip()
    series = ("layer", "slot", "kind", "share", "gradient", "change", "spectrum", "tensors")
    return {"at": at, "name": name, **{field: getattr(part, field) for field in series}}


_KINDS = {
    "columns": "prefix", "cells": "soft tokens", "bottleneck": "adapter", "encoder": "encoder",
    "trainable": "weights", "quantised": "weights",
}  # fmt: skip


def _merge(trajectory: Trajectory) -> str:
    """Return what merging costs, measured on the run's example; empty if it was not measured."""
    merges = trajectory.notes.get("merge")
    if not isinstance(merges, list):
        return ""
    texts = [
        f"{row['dtype']}: outputs differ by at most {row['max_difference']:.2g}, the largest is {row['max_logit']:.2g}"
        for row in merges
    ]
    return f"W + BA·α/r in one matrix, measured on the example. {'; '.join(texts)}." if texts else ""


# ----------------------------------------
# The living block's CSS. That of the drawing itself is :data:`peft_lab.drawing.svg.STYLE`.


NARROW_BELOW = 450  # CSS pixels: below this the wide picture's text would be smaller than 9.5 px
BESIDE_FROM = 620  # from this width the answers are beside the curve

_COLOURS = palette.variables(
    forward=palette.FORWARD, backward=palette.BACKWARD, trained=palette.TRAINED, trained_light=palette.TRAINED_LIGHT,
    frozen=palette.FROZEN, edge=palette.EDGE, soft=palette.SOFT, ink=palette.INK, frame=palette.FRAME,
    measured=palette.MEASURED, panel=palette.PANEL, paper=palette.PAGE,
)  # fmt: skip

LIVING_CSS = beside(
    __file__,
    "css/living.css",
    colours=_COLOURS,
    narrow_below=NARROW_BELOW,
    beside_from=BESIDE_FROM,
    tint=palette.SOURCE_TINT,
    shadow=palette.faint(palette.BLACK, 0.22),
)
