"""Which models a question can be asked about."""

from __future__ import annotations

from collections.abc import Callable

from peft_lab.methods import get_method
from peft_lab.models.shapes import ModelShape

FEW_POSITIONS = 8192  # where positions are scarce enough to be worth a question


def one_stack(shape: ModelShape) -> bool:
    """Encoders and causal models: one sequence of like layers."""
    return shape.kind != "seq2seq"


def separate_attention(shape: ModelShape) -> bool:
    """Own query, key, value and output maps, in one stack of layers."""
    return one_stack(shape) and {"q", "k", "v", "o"} <= set(shape.block)


def gated(shape: ModelShape) -> bool:
    """Llama-like blocks: seven maps, three of them in the feed-forward part."""
    return separate_attention(shape) and "gate" in shape.block


def causal(shape: ModelShape) -> bool:
    """Models that generate and so keep keys and values."""
    return shape.kind == "causal-lm"


def with_biases(shape: ModelShape) -> bool:
    """At least one bias, in one stack of layers."""
    return one_stack(shape) and bool(shape.biases)


def without_biases(shape: ModelShape) -> bool:
    return not shape.biases


def few_positions(shape: ModelShape) -> bool:
    """A fixed and small number of positions."""
    return one_stack(shape) and shape.max_positions is not None and shape.max_positions <= FEW_POSITIONS


def room_for(length: int) -> Callable[[ModelShape], bool]:
    """Causal models whose positions, if they are limited, reach for so many tokens."""

    def fits(shape: ModelShape) -> bool:
        return causal(shape) and (shape.max_positions is None or shape.max_positions >= length)

    return fits


def takes(slug: str, shape: ModelShape) -> bool:
    """Whether a method runs on the model at its defaults."""
    return not any(problem.level == "error" for problem in get_method(slug).problems(shape, {}))


def prefixed(shape: ModelShape) -> bool:
    """Causal models that PEFT's prefix fits."""
    return causal(shape) and takes("prefix", shape)


def prompted(shape: ModelShape) -> bool:
    """Models that Prompt Tuning and P-Tuning run on, in one stack of layers."""
    return one_stack(shape) and takes("prompt", shape)
