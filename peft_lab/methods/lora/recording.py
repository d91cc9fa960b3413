"""What a LoRA run notes: the gradients of A and B at step 0, how every ΔW grows, and the trained corrections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from peft_lab.insight.recorder import Recorder
from peft_lab.methods.knobs import Values
from peft_lab.methods.lora import insight as lora
from peft_lab.methods.lora.watching import watched
from peft_lab.models.shapes import ModelShape

if TYPE_CHECKING:
    import numpy as np
    import torch


__all__ = ["RunRecorder", "watched"]


class RunRecorder(Recorder):
    """Keeps the first gradients of A and B and how every ΔW grows, and merges it at the end."""

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
        """Of every ΔW: its singular values, their norm and effective rank, and a heat map. None of them makes ΔW."""
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
        """(snapshots, modules, GRID, GRID) as shares of the largest cell in float16, NaN beyond a small matrix's."""
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
