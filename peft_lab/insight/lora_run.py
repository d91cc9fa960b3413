"""What a LoRA run notes: the gradients of A and B at step 0, how ΔW grows, and the trained corrections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from peft_lab.insight import lora
from peft_lab.insight.recorder import Recorder
from peft_lab.methods.knobs import Values
from peft_lab.shapes import ModelShape

if TYPE_CHECKING:
    import torch


class RunRecorder(Recorder):
    def __init__(self, model: torch.nn.Module, shape: ModelShape, values: Values) -> None:
        super().__init__(model, shape, values)
        self._gradients: dict[str, Any] = {}
        self._growth: list[dict[str, Any]] = []

    def after_backward(self, step: int) -> None:
        if step == 0:
            self._gradients = lora.gradients(self.model)

    def snapshot(self, step: int) -> None:
        """Norms of ΔW = scale·BA by module, without building ΔW: ‖BA‖² = Σ (BᵀB)∘(AAᵀ)."""
        import torch

        norms = {}
        with torch.no_grad():
            for path, module in lora.layers(self.model):
                a, b = (matrix[lora.ADAPTER].weight.float() for matrix in (module.lora_A, module.lora_B))
                square = float(((b.T @ b) * (a @ a.T)).sum())
                norms[path] = abs(float(module.scaling[lora.ADAPTER])) * max(0.0, square) ** 0.5
        self._growth.append({"step": step, "norms": norms})

    def finish(
        self,
        model: torch.nn.Module,
        inputs: Mapping[str, torch.Tensor],
        fresh_base: Callable[[], torch.nn.Module],
    ) -> dict[str, Any]:
        return {
            "step0_gradients": self._gradients,
            "growth": self._growth,
            "corrections": lora.corrections(model),
            "merge": self._merge(model, inputs),
        }

    def _merge(self, model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> list[dict[str, Any]]:
        return lora.merge_check(model, inputs)
