"""Return an adapter's LoRA factors with the scale that PEFT gives them, and refuse what is not plain LoRA."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peft_lab.core.errors import BadInput
from peft_lab.takeaway.ship.adapter import WEIGHTS, Adapter

Array = NDArray[np.float32]
#: Settings by which LoRA is more than ΔW = scale · B·A and that no tensor's name shows.
_BEYOND = ("alora_invocation_tokens", "layer_replication", "use_qalora", "use_bdlora", "target_parameters")
NORMS = "magnitude_vector"
#: The base's own matrix, which PEFT saves beside LoRA on an embedding or a head.
_COPY = (".base_layer.weight",)
#: Starts that change the base, so that the factors fit only that changed base.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga", "kasa")


@dataclass(frozen=True)
class Factors:
    """LoRA of one matrix: ΔW = scale · B·A.

    Attributes:
        path: the module in the base model, such as ``model.layers.0.self_attn.q_proj``.
        a: (r, d_in); of an embedding, d_in is its number of tokens. b: (d_out, r). norms: DoRA's norms (d_out),
            ``None`` without DoRA.
    """

    path: str
    a: Array
    b: Array
    scale: float
    norms: Array | None = None

    @property
    def delta(self) -> Array:
        """Return ΔW (d_out, d_in)."""
        return np.float32(self.scale) * (self.b @ self.a)

    def b_at(self, scale: float) -> Array:
        """Return the B that gives the same ΔW in an engine that multiplies by another scale."""
        share = self.scale / scale
        return self.b if math.isclose(share, 1) else self.b * np.float32(share)


def factors_of(adapter: Adapter, dora: bool = False) -> tuple[Factors, ...]:
    """Return the factors of every matrix, in the order of their paths; with ``dora`` its norms too. Raises BadInput if
    the adapter is more than LoRA's two matrices, with the first such setting or tensor."""
    import safetensors

    if adapter.type != "LORA":
        raise BadInput(f"This adapter is {adapter.type}. Merge it, or convert it to LoRA first.", "adapter")
    beyond = [name for name in _BEYOND if adapter.config.get(name)]
    start = str(adapter.config.get("init_lora_weights"))
    if beyond or start.lower().startswith(_CHANGES_BASE):
        raise BadInput(
            f"This format cannot hold LoRA with {(*beyond, start)[0]}. Merge the adapter.", "adapter"
        )
    sides = {"A.weight": "A", "B.weight": "B", "embedding_A": "A", "embedding_B": "B"}
    wanted = {**sides, **({NORMS: NORMS} if dora else {})}
    parts: dict[str, dict[str, Array]] = {}
    parse: Any = safetensors.deserialize  # untyped
    for name, tensor in parse(adapter.take(WEIGHTS)):
        path, _, kind = name.removeprefix("base_model.model.").partition(".lora_")
        if name.endswith(_COPY):
            continue
        if kind not in wanted:
            raise BadInput(f"This format cannot hold '{name}'. Merge the adapter.", "adapter")
        parts.setdefault(path, {})[wanted[kind]] = _values(tensor)
    for path, part in parts.items():
        if not {"A", "B"} <= part.keys():
            raise BadInput(f"The adapter has only one of the two matrices of '{path}'.", "adapter")
    return tuple(
        Factors(path, part["A"], part["B"], scale_of(adapter.config, path), part.get(NORMS))
        for path, part in sorted(parts.items())
    )


def _values(tensor: Mapping[str, Any]) -> Array:
    """Return a stored tensor in float32. Raises BadInput for a precision that no adapter is trained in."""
    kind, data = tensor["dtype"], tensor["data"]
    if kind == "BF16":
        values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    elif kind in ("F16", "F32", "F64"):
        values = np.frombuffer(data, f"<f{int(kind[1:]) // 8}").astype(np.float32)
    else:
        raise BadInput(
            f"The adapter is stored as {kind}. Save it in float32, float16 or bfloat16.", "adapter"
        )
    return values.reshape(tensor["shape"])


def scale_of(config: Mapping[str, Any], path: str) -> float:
    """Return what PEFT multiplies a module's B·A by: alpha/r, or alpha/√r with ``use_rslora``; patterns first.

    A pattern's key is matched as ``get_pattern_key`` of peft/utils/other.py does (0.21.2).
    """

    def of(name: str, pattern: str) -> float:
        known = config.get(pattern) or {}
        key = next((key for key in known if re.match(rf"(.*\.)?({key})$", path)), path)
        return float(known.get(key, config[name]))

    rank, alpha = of("r", "rank_pattern"), of("lora_alpha", "alpha_pattern")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
