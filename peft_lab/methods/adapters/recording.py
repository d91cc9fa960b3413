"""What a run of adapters records: its adapters at some steps, replayed at the end on the same held-out rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from peft_lab.ask.field import Values
from peft_lab.methods.adapters import insight as adapters
from peft_lab.methods.recording import parts
from peft_lab.methods.recording.parts import Kept, Watching, slot_of
from peft_lab.methods.recording.recorder import Recorder
from peft_lab.methods.shared import bottleneck
from peft_lab.models.shapes import ModelShape

if TYPE_CHECKING:
    import torch

PLAYED_ROWS = 16
KEPT_BYTES = 300e6  # of snapshots; beyond it, only the first and the latest are kept


class RunRecorder(Recorder):
    """Record the adapters at some steps, and fit an affine map to each at the end."""

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
    """Return the number of tokens that the affine maps were fitted to, and of those that tested them."""
    mask = inputs["attention_mask"]
    fitted = int(mask[: int(adapters.FITTED * len(mask))].sum())
    return {"tokens": fitted, "judged": int(mask.sum()) - fitted}


def _straightened(
    model: torch.nn.Module, inputs: Mapping[str, torch.Tensor], lines: Mapping[str, adapters.Affine]
) -> dict[str, Any]:
    """Compare the answers on rows not used for fitting, with the adapters and with affine maps in their place."""
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


class Hourglass(Kept):
    """One adapter, whose output is added to its host's.

    It starts near zero, so its change is measured relative to the host's matrix, not to its own start.
    """

    kind = "bottleneck"

    def __init__(self, path: str, slot: str, host: Any, module: Any, scale: float) -> None:
        down, up = module.down.weight, module.up.weight
        super().__init__(path, slot, (up.shape[0], down.shape[1]), list(module.parameters()), down.shape[0])
        self._host, self._module, self._scale = host, module, scale
        self._size: float | None = None

    def change(self) -> float | None:
        if self._size is None:
            matrices = [p for p in self._host.parameters() if not p.requires_grad and p.dim() > 1]
            self._size = math.hypot(*(float(each.detach().float().norm()) for each in matrices))
        moved = [float((now - start).norm()) for now, start in zip(self.now(), self._start, strict=True)]
        return math.hypot(*moved) / self._size if self._size else None

    def listen(self) -> Sequence[Any]:
        added: list[torch.Tensor] = []

        def keep(_: Any, args: Any, output: torch.Tensor) -> None:
            added.append(output.float() * self._scale)

        def compare(_: Any, args: Any, output: Any) -> None:
            whole = (output[0] if isinstance(output, tuple) else output).float()
            part = added[-1].reshape(whole.shape)
            self.share = float(part.norm() / (whole - part).norm())

        # The adapter is itself a hook of its host; a hook registered later sees the sum.
        return (self._module.register_forward_hook(keep), self._host.register_forward_hook(compare))

    def tensors(self) -> dict[str, dict[str, Any]]:
        return {
            "down": parts.tensor_picture(self._module.down.weight, parts.THIN, parts.LONG),
            "up": parts.tensor_picture(self._module.up.weight, parts.LONG, parts.THIN),
        }


def watched(model: torch.nn.Module, shape: ModelShape, values: Values) -> Watching:
    """Watch every adapter: after the attention (``attention``), or after or beside the feed-forward part (``ffn``)."""
    found = []
    for path, (module, scale) in bottleneck.modules_of(model, adapters.ADAPTER).items():
        slot = "attention" if slot_of(path, shape) == "o" else "ffn"
        found.append(Hourglass(path, slot, model.get_submodule(path), module, scale))
    return Watching(found)
