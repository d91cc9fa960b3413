"""What a run of IA³ notes: its vectors at some steps, the strongest factors, and what merging them changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from peft_lab.insight.recorder import Recorder
from peft_lab.methods.ia3 import insight as ia3
from peft_lab.methods.knobs import Values
from peft_lab.models.shapes import ModelShape

if TYPE_CHECKING:
    import torch


class RunRecorder(Recorder):
    """Keeps the vectors at some steps, and merges them at the end."""

    def __init__(self, model: torch.nn.Module, shape: ModelShape, values: Values) -> None:
        super().__init__(model, shape, values)
        self._kept: list[tuple[int, dict[str, torch.Tensor]]] = []

    def snapshot(self, step: int) -> None:
        self._kept.append((step, ia3.copies(self.model)))

    def finish(
        self,
        model: torch.nn.Module,
        inputs: Mapping[str, torch.Tensor],
        fresh_base: Callable[[], torch.nn.Module],
    ) -> dict[str, Any]:
        on_input = [path for path, _, inside in ia3.vectors(model) if inside]
        edges, spread = ia3.histograms([vectors for _, vectors in self._kept])
        return {
            "snapshots": [
                {
                    "step": step,
                    "vectors": [ia3.row(path, vector) for path, vector in vectors.items()],
                    "spread": counts,
                }
                for (step, vectors), counts in zip(self._kept, spread, strict=True)
            ],
            "edges": edges,
            "on_input": on_input,
            "twins": ia3.twins(self._kept[-1][1], on_input),
            "strongest": ia3.strongest(self._kept[-1][1]),
            "merge": ia3.merge_check(model, inputs),
        }
