"""What a run of IA³ records: its vectors at some steps, the strongest factors, and what merging them changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from peft_lab.ask.field import Values
from peft_lab.methods.ia3 import insight as ia3
from peft_lab.methods.recording.parts import Watched, Watching, row, slot_of
from peft_lab.methods.recording.recorder import Recorder
from peft_lab.models import quantise
from peft_lab.models.module_tree import clean_path
from peft_lab.models.shapes import ModelShape

if TYPE_CHECKING:
    import torch


class RunRecorder(Recorder):
    """Record the vectors at some steps, and test merging at the end."""

    sees = True

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


class Gate(Watched):
    """One vector of factors. ``share`` is of the output: (l - 1) * Wx, or W((l - 1) * x) if it scales the input."""

    kind = "gate"

    def __init__(self, path: str, slot: str, module: Any) -> None:
        self._module, self._vector = module, module.ia3_l[ia3.ADAPTER]
        super().__init__(path, slot, (self._vector.numel(),), [self._vector])

    def _distance(self) -> torch.Tensor:
        return self._vector.detach().float().flatten() - 1

    def listen(self) -> Sequence[Any]:
        if self._module.is_feedforward:
            return (self._module.register_forward_hook(self._scaled_before),)
        return (self._module.get_base_layer().register_forward_hook(self._scaled_after),)

    def _scaled_after(self, _: Any, args: Any, output: torch.Tensor) -> None:
        plain = output.float()
        self.share = float((plain * self._distance()).norm() / plain.norm())

    def _scaled_before(self, _: Any, args: tuple[Any, ...], output: torch.Tensor) -> None:
        weight = quantise.expanded(self._module.get_base_layer()).detach().float()
        distance = self._distance()
        matrix = weight if weight.shape[1] == distance.numel() else weight.T  # GPT-2's are (inputs, outputs)
        added = (args[0].float() * distance) @ matrix.T
        self.share = float(added.norm() / (output.float() - added).norm())

    def change(self) -> float:
        return float(self._distance().square().mean().sqrt())

    def tensors(self) -> dict[str, dict[str, Any]]:
        return {"l": row(self._distance())}


def watched(model: torch.nn.Module, shape: ModelShape, values: Values) -> Watching:
    """Watch every vector of factors."""
    found = []
    for name, module in model.named_modules():
        if ia3.ADAPTER in getattr(module, "ia3_l", {}):
            path = clean_path(name)
            found.append(Gate(path, slot_of(path, shape), module))
    return Watching(found)
