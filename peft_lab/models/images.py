"""Prepare the input of models that read images: pictures of one size, cut into patches."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from peft_lab.core.disk import read_json
from peft_lab.core.errors import BadInput
from peft_lab.models.shapes import ModelShape

if TYPE_CHECKING:
    import torch

#: The supported image classifiers: a single stack of equal blocks over an image's patches.
TYPES = ("vit", "dinov2")


def size_of(config: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return channels, height and width of the pictures that a model of this config reads.

    >>> size_of({"num_channels": 3, "image_size": 224})
    (3, 224, 224)
    """
    size = config["image_size"]
    height, width = (size, size) if isinstance(size, int) else (int(size[0]), int(size[-1]))
    return int(config.get("num_channels", 3)), height, width


def words(config: Mapping[str, Any]) -> str:
    """Return the picture size as text: ``224 × 224 pixels``."""
    _, height, width = size_of(config)
    return f"{width} × {height} pixels"


def require_text(shape: ModelShape, what: str) -> None:
    """Check that a model reads text. Raises BadInput if not. ``what``: the feature that needs it, such as ``Plan``."""
    if shape.kind == "vision":
        raise BadInput(
            f"{shape.title} reads images, and {what} supports only text models. You can count, draw and train it on "
            "the methods' pages and simulate it on the page Will it fit.",
            "model",
        )


def size_of_batch(rows: int, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes a step's memory depends on, in the form of :func:`peft_lab.training.batches.size_of`."""
    sizes = {"rows": rows, "length": 0, "padded": False, "kept": 0, "predicted": 0, "apart": False}
    return {**sizes, "image": list(size_of(config))}


# ----------------------------------------
# Convert an image file to the numbers that a model reads.
#
# As in ViT's own processor, the whole image is resized to the model's size, without cropping or rotation, so the same
# file always gives the same numbers.

PROCESSOR = "preprocessor_config.json"
_BILINEAR = 2  # the resampling code of Pillow and transformers
#: ViT's mean and deviation, used if a folder states none.
_HALF = (0.5, 0.5, 0.5)


class Pixels(NamedTuple):
    """An image until it is in a batch: values from 0 to 255 of shape (channels, height, width), and the mean and
    deviation of each channel, which normalise it as the model expects.
    """

    values: Any
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def batch(self, rows: Sequence[Any], device: str) -> dict[str, torch.Tensor]:
        """Return a batch of images, normalised: values from 0 to 1, minus the mean, divided by the deviation.

        Returns:
            pixel_values (rows, channels, height, width) and labels (rows,).
        """
        import torch

        values = torch.stack([row.pixels.values for row in rows]).float() / 255
        mean, deviation = (torch.tensor(each).view(1, -1, 1, 1) for each in (self.mean, self.deviation))
        labels = torch.tensor([row.label for row in rows])
        return {"pixel_values": ((values - mean) / deviation).to(device), "labels": labels.to(device)}


@dataclass(frozen=True)
class Eye:
    """How a model preprocesses images; takes the place of a tokenizer.

    Attributes:
        channels, height, width: of the pictures that the model reads.
        mean, deviation: per channel, of values from 0 to 1. resample: Pillow's resampling code.
        pad_token_id: unused, since all pictures have the same size.
    """

    channels: int
    height: int
    width: int
    mean: tuple[float, ...] = _HALF
    deviation: tuple[float, ...] = _HALF
    resample: int = _BILINEAR
    pad_token_id: int = 0

    def read(self, content: bytes) -> Pixels:
        """Return the pixels of a PNG or JPEG file, resized to the model's input size."""
        return Pixels(
            pixels_of(content, self.channels, self.height, self.width, self.resample),
            self.mean,
            self.deviation,
        )


def pixels_of(content: bytes, channels: int, height: int, width: int, resample: int) -> torch.Tensor:
    """Return the pixels of a PNG or JPEG file, resized: integers from 0 to 255 of shape (channels, height, width)."""
    import numpy
    import torch
    from PIL import Image

    with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as found:
        sized = found.convert("RGB" if channels == 3 else "L").resize((width, height), resample)
    values = numpy.array(sized).reshape(height, width, channels)
    return torch.from_numpy(values).permute(2, 0, 1).contiguous()


def eye_of(size: tuple[int, int, int], path: str | Path | None) -> Eye:
    """Return a model's image preprocessing from its ``preprocessor_config.json``; ViT's if there is none. ``size``:
    channels, height and width from its config. Raises ValueError: the settings are invalid."""
    channels, height, width = size
    if channels not in (1, 3):
        raise ValueError(f"the model reads images with {channels} channels; PNG and JPEG have 1 or 3")
    told: Mapping[str, Any] = {}
    if path is not None:
        told = read_json(Path(path))
    if not isinstance(told, Mapping):
        raise ValueError(f"its {PROCESSOR} contains no settings")
    mean, deviation = (
        _by_channel(told.get(name, _HALF[:channels]), channels, name) for name in ("image_mean", "image_std")
    )
    if min(deviation) <= 0:
        raise ValueError(f"its {PROCESSOR} says image_std {list(deviation)}")
    resample = told.get("resample", _BILINEAR)
    if type(resample) is not int or resample not in range(6):
        raise ValueError(f"its {PROCESSOR} says resample {resample!r}")
    return Eye(channels, height, width, mean, deviation, resample)


def _by_channel(told: Any, channels: int, name: str) -> tuple[float, ...]:
    numbers = [told] * channels if type(told) in (int, float) else told
    fits = isinstance(numbers, Sequence) and len(numbers) == channels
    if not fits or not all(type(number) in (int, float) for number in numbers):
        raise ValueError(f"its {PROCESSOR} says {name} {told!r}")
    return tuple(map(float, numbers))
