"""What a model that reads images takes in: one size of picture, cut into patches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peft_lab.errors import BadInput
from peft_lab.models.shapes import ModelShape

#: The classifiers of images that are taken: one stack of equal blocks over an image's patches.
TYPES = ("vit", "dinov2")


def size_of(config: Mapping[str, Any]) -> tuple[int, int, int]:
    """Channels, height and width of the pictures that a model of this config reads.

    >>> size_of({"num_channels": 3, "image_size": 224})
    (3, 224, 224)
    """
    size = config["image_size"]
    height, width = (size, size) if isinstance(size, int) else (int(size[0]), int(size[-1]))
    return int(config.get("num_channels", 3)), height, width


def words(config: Mapping[str, Any]) -> str:
    """The same to read: ``224 × 224 pixels``."""
    _, height, width = size_of(config)
    return f"{width} × {height} pixels"


def require_text(shape: ModelShape, what: str) -> None:
    """Raises BadInput for a model that reads images. ``what``: what knows none, such as ``Plan``."""
    if shape.kind == "vision":
        raise BadInput(
            f"{shape.title} reads images, and {what} knows models of text only. It can be counted, drawn, simulated on "
            "Memory, and trained on the methods' pages.",
            "model",
        )


def size_of_batch(rows: int, config: Mapping[str, Any]) -> dict[str, Any]:
    """What a step's memory depends on, as :func:`peft_lab.training.sizes.size_of` has it of a batch of pictures."""
    sizes = {"rows": rows, "length": 0, "padded": False, "kept": 0, "predicted": 0, "apart": False}
    return {**sizes, "image": list(size_of(config))}
