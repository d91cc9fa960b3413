"""What a QLoRA run notes: as LoRA. Merging is no exact operation into a 4-bit base and is not checked here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from peft_lab.insight import lora_run

if TYPE_CHECKING:
    import torch


class RunRecorder(lora_run.RunRecorder):
    def _merge(self, model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> list[dict[str, Any]]:
        return []
