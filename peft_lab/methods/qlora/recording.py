"""What a QLoRA run records: LoRA's records, the effect of rounding the base, and the result of each way of merging."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from peft_lab.methods.lora import recording as lora_run
from peft_lab.methods.lora.recording import watched
from peft_lab.methods.qlora import insight as qlora

if TYPE_CHECKING:
    import torch

__all__ = ["RunRecorder", "watched"]


class RunRecorder(lora_run.RunRecorder):
    """Record what LoRA records, the rounding of the base, and every way of merging."""

    def finish(
        self,
        model: torch.nn.Module,
        inputs: Mapping[str, torch.Tensor],
        fresh_base: Callable[[], torch.nn.Module],
    ) -> dict[str, Any]:
        """Return LoRA's records with ``rounding`` and ``merges``; ``inputs`` of shape (rows, length)."""
        return super().finish(model, inputs, fresh_base) | {
            "rounding": qlora.rounding(model, inputs, fresh_base),
            "merges": qlora.merges(model, inputs, fresh_base),
        }

    def _merge(self, model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> list[dict[str, Any]]:
        return []
