"""Answers that are read off a model's shape."""

from __future__ import annotations

from peft_lab import units
from peft_lab.choose.cited import PROMPT_SCALE
from peft_lab.models.shapes import ModelShape

_KINDS = {"encoder": "an encoder", "causal-lm": "a decoder", "seq2seq": "an encoder-decoder"}


def answers(shape: ModelShape) -> dict[str, str]:
    """Question -> answer, for what is counted."""
    return {
        "kind": shape.kind,
        "biases": "yes" if biased(shape) == len(_inside(shape)) else "no",
        "scale": "large" if shape.total >= PROMPT_SCALE.value else "small",
    }


def phrase(key: str, shape: ModelShape) -> str:
    """The count behind an answer, as a sentence without its full stop."""
    if key == "kind":
        return f"{shape.title} is {_KINDS[shape.kind]}"
    if key == "biases":
        return f"{biased(shape)} of the {len(_inside(shape))} linear maps in a layer of {shape.title} have biases"
    return f"{shape.title} has {units.short_count(shape.total)} parameters"


def _inside(shape: ModelShape) -> list[bool]:
    return [group.bias > 0 for group in shape.matrices if group.layers]


def biased(shape: ModelShape) -> int:
    """Linear maps of a layer that have a bias."""
    return sum(_inside(shape))
