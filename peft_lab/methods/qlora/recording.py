"""What a QLoRA run notes: as LoRA, what rounding its base did, and what every way of merging it gives."""

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
    """LoRA's notes, the rounding of the base, and every way of merging."""

    def finish(
        self,
        model: torch.nn.Module,
        inputs: Mapping[str, torch.Tensor],
        fresh_base: Callable[[], torch.nn.Module],
    ) -> dict[str, Any]:
        """LoRA's, and ``rounding`` and ``merges``; ``inputs`` of shape (rows, length)."""
        return super().finish(model, inputs, fresh_base) | {
            "rounding": qlora.rounding(model, inputs, fresh_base),
            "merges": qlora.merges(model, inputs, fresh_base),
        }

    def _merge(self, model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> list[dict[str, Any]]:
        return []
