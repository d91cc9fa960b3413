"""LoRA's corrections while they learn: what each adds to its matrix's output, and its ΔW."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from peft_lab.methods.knobs import Values
from peft_lab.methods.lora import insight as lora
from peft_lab.models.shapes import ModelShape
from peft_lab.trajectory import pictures
from peft_lab.trajectory.watched import Trained, Watched, Watching, slot_of, trained_modules

if TYPE_CHECKING:
    import torch


class LowRank(Watched):
    """One matrix with A and B beside it. With DoRA ``change`` and ``spectrum`` are those of BA alone."""

    kind = "low_rank"

    def __init__(self, path: str, slot: str, module: Any, start: lora.Factors | None) -> None:
        a, b, _ = lora.change(module, None)
        own = [p for name, p in module.named_parameters() if "lora_" in name and p.requires_grad]
        super().__init__(path, slot, (b.shape[0], a.shape[1]), own, int(module.r[lora.ADAPTER]))
        self._module, self._begun = module, start
        self._dora = lora.ADAPTER in (getattr(module, "lora_magnitude_vector", None) or {})
        self._weight: float | None = None

    def listen(self) -> Sequence[Any]:
        frozen: list[torch.Tensor] = []

        def keep(_: Any, args: Any, output: torch.Tensor) -> None:
            frozen.append(output.float())

        def compare(_: Any, args: tuple[Any, ...], output: torch.Tensor) -> None:
            base = frozen[-1]
            if self._dora:
                added = output.float() - base
            else:
                a, b, scale = lora.change(self._module, None)
                added = scale * (args[0].float() @ a.T @ b.T)
            self.share = float(added.norm() / base.norm())

        return (
            self._module.get_base_layer().register_forward_hook(keep),
            self._module.register_forward_hook(compare),
        )

    def change(self) -> float:
        return self.changed()[0]

    def changed(self) -> tuple[float, list[float]]:
        values = self.spectrum()
        size = math.hypot(*values)
        if not size:  # as before the first step, which need not wait for the size of W
            return 0.0, values
        if self._weight is None:
            self._weight = float(lora.base_weight(self._module).norm())
        return size / self._weight, values

    def spectrum(self) -> list[float]:
        return lora.singular_values(*lora.change(self._module, self._begun))

    def tensors(self) -> dict[str, dict[str, Any]]:
        a, b, _ = lora.change(self._module, None)
        moved = pictures.product(*lora.change(self._module, self._begun))
        return {
            "A": pictures.picture(a, pictures.THIN, pictures.LONG),
            "B": pictures.picture(b, pictures.LONG, pictures.THIN),
            "ΔW": pictures.picture(moved, pictures.SQUARE, pictures.SQUARE),
        }


def watched(model: torch.nn.Module, shape: ModelShape, values: Values) -> Watching:
    """Every adapted matrix, and whatever else trains beside them (biases)."""
    starts = lora.start_factors(model)
    parts: list[Watched] = [
        LowRank(path, slot_of(path, shape), module, starts.get(path)) for path, module in lora.layers(model)
    ]
    known = {id(parameter) for part in parts for parameter in part.trained}
    for path, slot, sides, own in trained_modules(model, shape):
        rest = [parameter for parameter in own if id(parameter) not in known]
        if rest:
            parts.append(Trained(path, slot, sides, rest))
    return Watching(parts)
