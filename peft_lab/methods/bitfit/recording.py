"""What a run of BitFit notes: how far each bias has moved at some steps, and what each kind of move is worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from peft_lab.insight.recorder import Recorder
from peft_lab.methods.bitfit import insight as bitfit
from peft_lab.methods.knobs import Values
from peft_lab.models.shapes import ModelShape

if TYPE_CHECKING:
    import torch


class RunRecorder(Recorder):
    """Keeps how far every bias moved, and puts the kinds of biases back at the end."""

    rows: ClassVar[int] = 64

    def __init__(self, model: torch.nn.Module, shape: ModelShape, values: Values) -> None:
        super().__init__(model, shape, values)
        self._start = {name: bias.detach().clone() for name, bias in bitfit.trained(model).items()}
        self._played: list[dict[str, Any]] = []

    def snapshot(self, step: int) -> None:
        self._played.append({"step": step, "moves": bitfit.moves(bitfit.trained(self.model), self._start)})

    def finish(
        self,
        model: torch.nn.Module,
        inputs: Mapping[str, torch.Tensor],
        fresh_base: Callable[[], torch.nn.Module],
    ) -> dict[str, Any]:
        biases = bitfit.trained(model)
        return {
            "snapshots": self._played,
            "put_back": bitfit.without(model, biases, self._start, inputs),
            "rows": len(inputs["input_ids"]),
            "dtype": str(next(iter(biases.values())).dtype).removeprefix("torch."),
        }
