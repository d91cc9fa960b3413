"""What a run of BitFit records: how far each bias has moved at some steps, and what each kind of move is worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from peft_lab.ask.field import Values
from peft_lab.methods.bitfit import insight as bitfit
from peft_lab.methods.recording.parts import Kept, Watching, row, slot_of
from peft_lab.methods.recording.recorder import Recorder
from peft_lab.models.shapes import ModelShape

if TYPE_CHECKING:
    import torch


class RunRecorder(Recorder):
    """Record how far every bias moved, and reset each kind of bias at the end to measure its effect."""

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


class Bias(Kept):
    """One bias: its move b - b0 relative to the module's output with b0."""

    kind = "bias"

    def __init__(self, name: str, slot: str, module: torch.nn.Module, bias: torch.nn.Parameter) -> None:
        super().__init__(name, slot, tuple(bias.shape), [bias])
        self._module = module

    def _move(self) -> torch.Tensor:
        return self.now()[0] - self._start[0]

    def listen(self) -> Sequence[Any]:
        def compare(_: Any, args: Any, output: torch.Tensor) -> None:
            move = self._move()
            without = output.float() - move
            self.share = float(move.expand_as(without).norm() / without.norm())

        return (self._module.register_forward_hook(compare),)

    def tensors(self) -> dict[str, dict[str, Any]]:
        return {"Δb": row(self._move())}


def watched(model: torch.nn.Module, shape: ModelShape, values: Values) -> Watching:
    """Watch every trained bias."""
    found = []
    for name, bias in bitfit.trained(model).items():
        path = name.rpartition(".")[0]
        found.append(Bias(path, slot_of(path, shape), model.get_submodule(path), bias))
    return Watching(found)
