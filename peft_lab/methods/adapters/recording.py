"""What a run of adapters notes: its adapters at some steps, replayed at the end on the same held-out rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from peft_lab.insight.recorder import Recorder
from peft_lab.methods.adapters import insight as adapters
from peft_lab.methods.knobs import Values
from peft_lab.methods.shared import bottleneck
from peft_lab.models.shapes import ModelShape

if TYPE_CHECKING:
    import torch

PLAYED_ROWS = 16
KEPT_BYTES = 300e6  # of snapshots; beyond, only the first and the latest are kept


class RunRecorder(Recorder):
    """Keeps the adapters at some steps, and fits a straight line to each at the end."""

    rows: ClassVar[int] = 128

    def __init__(self, model: torch.nn.Module, shape: ModelShape, values: Values) -> None:
        super().__init__(model, shape, values)
        self._kept: list[tuple[int, dict[str, torch.Tensor]]] = []

    def snapshot(self, step: int) -> None:
        state = {
            path: parameter.detach().clone()
            for path, parameter in bottleneck.parameters_of(self.model, adapters.ADAPTER).items()
        }
        size = sum(tensor.nbytes for tensor in state.values())
        if len(self._kept) > 1 and size * (len(self._kept) + 1) > KEPT_BYTES:
            del self._kept[1:]
        self._kept.append((step, state))

    def finish(
        self,
        model: torch.nn.Module,
        inputs: Mapping[str, torch.Tensor],
        fresh_base: Callable[[], torch.nn.Module],
    ) -> dict[str, Any]:
        own = bottleneck.parameters_of(model, adapters.ADAPTER)
        trained = {path: parameter.detach().clone() for path, parameter in own.items()}
        few = {name: tensor[:PLAYED_ROWS] for name, tensor in inputs.items()}
        off = self._switched_off(model, few)
        played = []
        for step, state in self._kept:
            _put(own, state)
            change = float((adapters.answers(model, few) - off).abs().max())
            played.append({"step": step, "added": adapters.added(model, few), "logit_change": change})
        _put(own, self._kept[0][1])
        start = adapters.fits(model, inputs)
        _put(own, trained)
        end = adapters.fits(model, inputs)
        return {
            "snapshots": played,
            "rows": len(few["input_ids"]),
            "tokens": int(few["attention_mask"].sum()),
            "dtype": str(next(iter(own.values())).dtype).removeprefix("torch."),
            "nonlinearity": self.values["nonlinearity"],
            "missed": {
                path: {"start": start[path][1], "trained": end[path][1], "without_function": end[path][2]}
                for path in end
            },
            "fitted": _amounts(inputs),
            "straightened": _straightened(model, inputs, {path: line for path, (line, *_) in end.items()}),
        }

    @staticmethod
    def _switched_off(model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        bottleneck.set_active(model, None)
        try:
            return adapters.answers(model, inputs)
        finally:
            bottleneck.set_active(model, adapters.ADAPTER)


def _put(own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> None:
    import torch

    with torch.no_grad():
        for path, tensor in state.items():
            own[path].copy_(tensor)


def _amounts(inputs: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """Tokens that the lines were fitted to, and other tokens that judged them."""
    mask = inputs["attention_mask"]
    fitted = int(mask[: int(adapters.FITTED * len(mask))].sum())
    return {"tokens": fitted, "judged": int(mask.sum()) - fitted}


def _straightened(
    model: torch.nn.Module, inputs: Mapping[str, torch.Tensor], lines: Mapping[str, adapters.Affine]
) -> dict[str, Any]:
    """Answers to the rows that no line was fitted to, with the adapters and with the lines in their place."""
    if not lines:
        return {}
    other = {name: tensor[int(adapters.FITTED * len(tensor)) :] for name, tensor in inputs.items()}
    with_adapters = adapters.answers(model, other)
    with adapters.straightened(model, lines):
        with_lines = adapters.answers(model, other)
    return {
        "rows": len(with_lines),
        "changed": int((with_adapters.argmax(-1) != with_lines.argmax(-1)).sum()),
        "max_difference": float((with_adapters - with_lines).abs().max()),
        "max_logit": float(with_adapters.abs().max()),
    }
