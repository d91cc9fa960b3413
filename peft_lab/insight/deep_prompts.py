"""What a run of trained keys and values notes: the attention on them along the steps, and what they cost in time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from peft_lab.insight import attention
from peft_lab.insight.recorder import Recorder
from peft_lab.insight.soft_tokens import ADAPTER, made_tokens
from peft_lab.methods.knobs import Values
from peft_lab.methods.shared import deep
from peft_lab.models.shapes import ModelShape
from peft_lab.training.sizes import writes_at

if TYPE_CHECKING:
    import torch


class DeepRecorder(Recorder):
    """Keeps the prefix of some steps; at the end each is put back and its attention measured on the same rows."""

    rows: ClassVar[int] = 16

    def __init__(self, model: torch.nn.Module, shape: ModelShape, values: Values) -> None:
        super().__init__(model, shape, values)
        self._kept: list[tuple[int, dict[str, torch.Tensor]]] = []

    def snapshot(self, step: int) -> None:
        self._kept.append((step, prefix_of(self.model)))

    def finish(
        self,
        model: torch.nn.Module,
        inputs: Mapping[str, torch.Tensor],
        fresh_base: Callable[[], torch.nn.Module],
    ) -> dict[str, Any]:
        tokens: int = self.values["num_virtual_tokens"]
        played = []
        for step, prefix in self._kept:
            with_prefix = _replayed(model, prefix)
            try:
                played.append(
                    {"step": step, "share": attention.shares(model, inputs, tokens), **_apart(prefix)}
                )
            finally:
                with_prefix()
        causal, attends = self.shape.kind != "encoder", writes_at(model, inputs)
        return {
            "attention": played,
            "even": attention.even_share(attends, tokens, causal),
            "rows": len(inputs["input_ids"]),
            "tokens": int(attends.sum()),
            "virtual_tokens": tokens,
            "latency": attention.latency(model, inputs),
            "bytes_each": next(model.parameters()).element_size(),
        }


def prefix_of(model: Any) -> dict[str, torch.Tensor]:
    """The trained keys and values as they are right now: PEFT's table, or every layer's own.

    The table has the shape (tokens, layers · 2 · kv width), a layer's own as it is trained.
    """
    if hasattr(model, "peft_config"):
        return {"table": made_tokens(model)}
    return {
        name: parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if f".{deep.CHILD}." in name
    }


def _apart(prefix: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """How far the virtual tokens are from each other, as a share of their size: 0 when all are alike."""
    import torch

    if "table" in prefix:
        table = prefix["table"]
    else:
        table = torch.cat([part.float().transpose(0, 1).flatten(1) for part in prefix.values()], dim=1)
    size = float(table.norm(dim=1).mean())
    spread = float((table - table.mean(0)).norm(dim=1).mean())
    return {"size": size, "apart": spread / size if size else 0.0}


def _replayed(model: Any, prefix: Mapping[str, torch.Tensor]) -> Callable[[], None]:
    """Put an earlier prefix into the model. Returns what puts the present one back."""
    import torch

    if "table" not in prefix:
        own = dict(model.named_parameters())
        present = {name: own[name].detach().clone() for name in prefix}

        def put(state: Mapping[str, torch.Tensor]) -> None:
            with torch.no_grad():
                for name, tensor in state.items():
                    own[name].copy_(tensor)

        put(prefix)
        return lambda: put(present)
    encoder = model.prompt_encoder[ADAPTER]
    table = prefix["table"].to(encoder.embedding.weight.device)
    encoder.forward = lambda indices: table[indices]
    return lambda: delattr(encoder, "forward")
