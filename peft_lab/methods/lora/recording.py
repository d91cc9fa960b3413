"""What a LoRA run records: the gradients of A and B at step 0, how every ΔW grows, and the trained corrections."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from peft_lab.ask.field import Values
from peft_lab.methods.lora import insight as lora
from peft_lab.methods.recording import parts
from peft_lab.methods.recording.parts import Trained, Watched, Watching, slot_of, trained_modules
from peft_lab.methods.recording.recorder import Recorder
from peft_lab.models.shapes import ModelShape

if TYPE_CHECKING:
    import numpy as np
    import torch


# ----------------------------------------
# LoRA's corrections while they learn: what each adds to its matrix's output, and its ΔW.


class LowRank(Watched):
    """One matrix with its A and B. With DoRA ``change`` and ``spectrum`` are those of BA alone."""

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
        if not size:  # before the first step, so the norm of W is not needed
            return 0.0, values
        if self._weight is None:
            self._weight = float(lora.base_weight(self._module).norm())
        return size / self._weight, values

    def spectrum(self) -> list[float]:
        return lora.singular_values(*lora.change(self._module, self._begun))

    def tensors(self) -> dict[str, dict[str, Any]]:
        a, b, _ = lora.change(self._module, None)
        moved = parts.product_picture(*lora.change(self._module, self._begun))
        return {
            "A": parts.tensor_picture(a, parts.THIN, parts.LONG),
            "B": parts.tensor_picture(b, parts.LONG, parts.THIN),
            "ΔW": parts.tensor_picture(moved, parts.SQUARE, parts.SQUARE),
        }


def watched(model: torch.nn.Module, shape: ModelShape, values: Values) -> Watching:
    """Watch every adapted matrix, and whatever else trains beside them (biases)."""
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


__all__ = ["RunRecorder", "watched"]


class RunRecorder(Recorder):
    """Record the first gradients of A and B and the growth of every ΔW, and test merging at the end."""

    sees = True

    def __init__(self, model: torch.nn.Module, shape: ModelShape, values: Values) -> None:
        super().__init__(model, shape, values)
        self._gradients: dict[str, Any] = {}
        self._growth: list[dict[str, Any]] = []
        self._grids: list[list[torch.Tensor]] = []
        self._starts = lora.start_factors(model)

    def after_backward(self, step: int) -> None:
        if step == 0:
            self._gradients = lora.gradients(self.model)

    def snapshot(self, step: int) -> None:
        """Record every ΔW's singular values, their norm and effective rank, and a heat map, without forming ΔW."""
        import torch

        singular, grids = {}, []
        with torch.no_grad():
            for path, module in lora.layers(self.model):
                factors = lora.change(module, self._starts.get(path))
                singular[path] = [float(f"{value:.4g}") for value in lora.singular_values(*factors)]
                grids.append(lora.grid(*factors))
        norms = {path: sum(value**2 for value in values) ** 0.5 for path, values in singular.items()}
        ranks = {path: lora.effective_rank(values) for path, values in singular.items()}
        row = {"step": step, "norms": norms, "singular_values": singular, "effective_ranks": ranks}
        self._growth.append(row)
        self._grids.append(grids)

    def finish(
        self,
        model: torch.nn.Module,
        inputs: Mapping[str, torch.Tensor],
        fresh_base: Callable[[], torch.nn.Module],
    ) -> dict[str, Any]:
        return {
            "step0_gradients": self._gradients,
            "growth": self._growth,
            "corrections": lora.corrections(model, self._starts),
            "grids": self._stacked(),
            "largest_cell": self._largest,
            "merge": self._merge(model, inputs),
        }

    @property
    def _largest(self) -> float:
        return max(float(cells.max()) for grids in self._grids for cells in grids) or 1.0

    def _stacked(self) -> np.ndarray[Any, Any]:
        """Return (snapshots, modules, GRID, GRID) in float16 as shares of the largest cell; NaN pads small matrices."""
        import torch

        shape = (len(self._grids), len(self._grids[0]), lora.GRID, lora.GRID)
        stacked = torch.full(shape, float("nan"))
        for time, grids in enumerate(self._grids):
            for number, cells in enumerate(grids):
                stacked[time, number, : cells.shape[0], : cells.shape[1]] = cells / self._largest
        stored: np.ndarray[Any, Any] = stacked.half().numpy()
        return stored

    def _merge(self, model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> list[dict[str, Any]]:
        return lora.merge_check(model, inputs)
