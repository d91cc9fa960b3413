"""Record a run of BitFit: how far training moved each bias, and which of these moves the answers depend on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from peft_lab.core.field import Values
from peft_lab.core.later import torch
from peft_lab.methods.adapters.recording import answers
from peft_lab.methods.recording.recorder import (
    FreshBase,
    Inputs,
    Recorder,
    WatchedFromStart,
    copied,
    restored,
    row,
    slot_of,
)
from peft_lab.models.meta import pattern_of
from peft_lab.models.shapes import ModelShape, in_head, is_bias


def trained(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return the trained biases, except those of a task head, by their path in the model."""
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and is_bias(name) and not in_head(name)
    }


def moves(now: Mapping[str, torch.Tensor], start: Mapping[str, torch.Tensor]) -> list[dict[str, Any]]:
    """Return, for every bias, root mean square and maximum of its entries' moves, and its initial root mean square.
    ``now`` and ``start``: biases of one dimension, by name."""
    rows = []
    for name, value in now.items():
        move = value.detach().float() - start[name].float()
        rows.append(
            {
                "bias": name,
                "size": move.numel(),
                "moved": float(move.square().mean().sqrt()),
                "most": float(move.abs().max()),
                "start": float(start[name].float().square().mean().sqrt()),
            }
        )
    return rows


def kind_of(name: str) -> tuple[str, int | None]:
    """Split ``bert.encoder.layer.3.output.dense.bias`` into (``output.dense``, 3); outside layers into path, None."""
    path, layer = pattern_of(name.removesuffix(".bias"))
    return path.split("{}.")[-1], layer


def without(
    model: torch.nn.Module,
    biases: Mapping[str, torch.nn.Parameter],
    start: Mapping[str, torch.Tensor],
    inputs: Inputs,
) -> list[dict[str, Any]]:
    """Measure what each kind of bias is worth: reset it and return the mean change of the logits and the number of rows
    whose answer changes. The largest change comes first.

    ``start``: biases of one dimension, by name. ``inputs``: ids and mask of shape (rows, length).
    """
    tuned = answers(model, inputs)
    rows = []
    for kind in dict.fromkeys(kind_of(name)[0] for name in biases):
        with restored(biases, {name: start[name] for name in biases if kind_of(name)[0] == kind}):
            found = answers(model, inputs)
        change, other = (found - tuned).abs(), found.argmax(-1) != tuned.argmax(-1)
        if change.dim() == 3:  # a label for every token
            change = change[inputs["attention_mask"].bool()]
        rows.append(
            {
                "kind": kind,
                "mean_change": float(change.mean()),
                "changed": int(other.reshape(len(other), -1).any(1).sum()),
            }
        )
    return sorted(rows, key=lambda row: -float(row["mean_change"]))


class RunRecorder(Recorder):
    """Record how far every bias moved, and reset each kind of bias at the end to measure its effect."""

    rows: ClassVar[int] = 64

    def __init__(self, model: torch.nn.Module, shape: ModelShape, values: Values) -> None:
        super().__init__(model, shape, values)
        self._start = copied(trained(model))
        self._played: list[dict[str, Any]] = []

    def watched(self) -> Sequence[Bias]:
        """Return every trained bias."""
        named = [(name.rpartition(".")[0], bias) for name, bias in trained(self.model).items()]
        return [Bias(path, slot_of(path, self.shape), self.model.get_submodule(path), b) for path, b in named]

    def snapshot(self, step: int) -> None:
        self._played.append({"step": step, "moves": moves(trained(self.model), self._start)})

    def finish(self, inputs: Inputs, fresh_base: FreshBase) -> dict[str, Any]:
        biases = trained(self.model)
        return {
            "snapshots": self._played,
            "put_back": without(self.model, biases, self._start, inputs),
            "rows": len(inputs["input_ids"]),
            "dtype": str(next(iter(biases.values())).dtype).removeprefix("torch."),
        }


class Bias(WatchedFromStart):
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
