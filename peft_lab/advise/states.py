"""Memory of weights, gradients and moments, by counting: rules out what cannot fit before it is simulated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from peft_lab.methods import get_method
from peft_lab.models.shapes import ModelShape

if TYPE_CHECKING:
    from peft_lab.advise.simulating import Run

BYTES_OF_DTYPE = {"bfloat16": 2, "float16": 2, "float32": 4}
ADAPTER = 8  # bytes per adapter parameter: weight and gradient in float32
#: Moments per weight that an optimizer keeps on the device at least, as wide as the weight. AdamW keeps two.
_KEPT: Mapping[str, float] = {
    "paged_adamw": 0, "paged_adamw8bit": 0, "adafactor": 0, "muon": 1, "lorafa": 0, "sgd": 0,
}  # fmt: skip
PACKED = 4.127 / 8  # bytes of a weight in NF4 with double quantisation (Dettmers et al. 2023, section 3)


def weight_bytes(shape: ModelShape, method: str, run: Run) -> int:
    """Return the bytes of the weights, in full fine-tuning with gradients and moments. A step needs more."""
    if method == "full":
        return states(shape, method, {}, run)
    if method == "qlora":
        return int(_packed(shape))
    return 2 * shape.total


def states(shape: ModelShape, method: str, values: Mapping[str, Any], run: Run) -> int:
    """Return the bytes of weights, gradients and moments."""
    if method == "full":
        each = BYTES_OF_DTYPE[run.dtype]
        return int(shape.total * (2 * each + _moments(run.optimizer, each)))
    spec = get_method(method)
    trained = spec.formula(shape, spec.complete(shape, values)).trainable
    return int(weight_bytes(shape, method, run) + (ADAPTER + _moments(run.optimizer, 4)) * trained)


def _moments(optimizer: str, width: int) -> float:
    """Return the bytes of moments per weight of ``width`` bytes: two 8-bit moments, or some as wide as it."""
    return 2 if optimizer == "adamw8bit" else width * _KEPT.get(optimizer, 2)


def copies(shape: ModelShape, method: str, dtype: str) -> int:
    """Return the bytes of the 16-bit weight copies that autocast multiplies with, beside weights in float32."""
    return 2 * shape.total if method == "full" and dtype == "float32" else 0


def buckets(shape: ModelShape, method: str, values: Mapping[str, Any], dtype: str) -> int:
    """Return the bytes of the buffers in which devices average gradients: one more copy of the gradients."""
    spec = get_method(method)
    trained = spec.formula(shape, spec.complete(shape, values)).trainable
    return trained * (BYTES_OF_DTYPE[dtype] if method == "full" else 4)


def _packed(shape: ModelShape) -> float:
    layers = sum(_size(group) for group in shape.matrices if group.layers)
    return layers * PACKED + 2 * (shape.total - layers)


def _size(group: Any) -> int:
    size: int = group.in_features * group.out_features * group.count
    return size
