"""A recorded trajectory as the browser needs it: what is drawn, and no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from peft_lab.methods import get_method
from peft_lab.trajectory.format import Part, Trajectory


def sent(trajectory: Trajectory, live: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """A trajectory as plain data for ``js/recorded.js``.

    Args:
        live: steps after the trajectory's last, while its run goes on: ``{"step": 12, "loss": 0.4}`` each.
    """
    loss = list(trajectory.curve.loss)
    for event in sorted(live, key=lambda one: one["step"]):
        if event["step"] == len(loss) + 1:
            loss.append(event["loss"])
    example, merged = trajectory.example, _merge(trajectory)
    # Answers are written beside the training and may come after its last step.
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
    """``LoRA on SmolLM2-135M with r = 8``: the learner's knobs may stand elsewhere by now."""
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
    """What merging costs, measured on the run's example; empty where it was not."""
    found = trajectory.notes.get("merge")
    if not isinstance(found, list):
        return ""
    said = [
        f"{row['dtype']}: outputs differ by at most {row['max_difference']:.2g}, the largest is {row['max_logit']:.2g}"
        for row in found
    ]
    return f"W + BA·α/r in one matrix, measured on the example. {'; '.join(said)}." if said else ""
