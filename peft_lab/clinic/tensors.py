"""What is in a safetensors file, as figures: shapes, precision, how large the entries are. Without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from peft_lab.errors import BadInput

_PLAIN = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1",
    "BOOL": "?",
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """One tensor.

    Attributes:
        dtype: as safetensors writes it (F32, BF16 ...).
        low, high: smallest and largest finite entry; ``None`` without any.
        finite: share of the entries that are numbers; 1 for a precision whose entries are not read here (8 bits).
    """

    shape: tuple[int, ...]
    dtype: str
    low: float | None
    high: float | None
    finite: float

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    @property
    def zero(self) -> bool:
        """Whether there are entries and all are zero."""
        return self.finite == 1 and self.low == 0 == self.high


def read_tensors(name: str, content: bytes) -> dict[str, Tensor]:
    """Every tensor of a file. One without a byte holds none.

    Raises:
        BadInput: no safetensors file, or a damaged one.
    """
    import safetensors

    parse: Any = safetensors.deserialize  # has no types
    if not content:
        return {}
    try:
        found: list[tuple[str, Mapping[str, Any]]] = parse(content)
        return {key: _tensor(entry) for key, entry in found}
    except (safetensors.SafetensorError, ValueError) as error:
        raise BadInput(f"{name} is not a whole safetensors file: {str(error)[:120]}.", "adapter") from error


def _tensor(entry: Mapping[str, Any]) -> Tensor:
    shape, dtype, data = tuple(entry["shape"]), str(entry["dtype"]), entry["data"]
    if dtype == "BF16":
        raw = np.frombuffer(data, dtype="<u2").astype(np.uint32) << 16
        values = raw.view(np.float32)
    elif dtype in _PLAIN:
        values = np.frombuffer(data, dtype=_PLAIN[dtype])
    else:
        return Tensor(shape, dtype, None, None, 1.0)
    good = values[np.isfinite(values)]
    share = 1.0 if not len(values) else len(good) / len(values)
    if not len(good):
        return Tensor(shape, dtype, None, None, share)
    return Tensor(shape, dtype, float(good.min()), float(good.max()), share)
