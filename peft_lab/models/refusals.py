"""What PEFT and torch raise when they refuse, on purpose or by accident, and how that is told."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from peft_lab.errors import BadInput

_SIZE = re.compile(
    r"size mismatch for (?P<name>\S+): copying a param with shape torch\.Size\(\[(?P<found>[\d, ]*)\]\) from "
    r"checkpoint, the shape in current model is torch\.Size\(\[(?P<wanted>[\d, ]*)\]\)"
)

# For values it cannot use (a zero rank, a broken pattern), a missing package, a model it was not written for.
REFUSALS = (
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    re.error,
)


def reason(error: Exception) -> str:
    """What PEFT raised, as the end of a sentence."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"one of its values has the wrong type ({text})" if isinstance(error, TypeError) else text


def misshapen(
    holder: str, name: str, stored: Sequence[int], wanted: Sequence[int], field: str = "adapter"
) -> BadInput:
    """Return the error for a stored tensor whose shape is not the model's; both shapes as torch has them."""
    shapes = (" × ".join(map(str, shape)) or "a single number" for shape in (stored, wanted))
    return BadInput("{} holds '{}' as {}, where this model has {}.".format(holder, name, *shapes), field)


@contextmanager
def fitting_shapes() -> Iterator[None]:
    """Load an adapter within: torch's complaint about a shape becomes :func:`misshapen`'s error.

    Raises:
        BadInput: the first tensor of the adapter whose shape is not the model's.
    """
    try:
        yield
    except RuntimeError as error:
        told = _SIZE.search(str(error))
        if told is None:
            raise
        stored, wanted = (
            [int(size) for size in re.findall(r"\d+", told[part])] for part in ("found", "wanted")
        )
        # PEFT puts a prompt into an embedding, whose one tensor torch then names
        name = "prompt_embeddings" if told["name"] == "weight" else told["name"]
        raise misshapen("The adapter", name, stored, wanted) from error
