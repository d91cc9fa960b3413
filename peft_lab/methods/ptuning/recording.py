"""Record a run of P-Tuning: for version 1 its encoder's output, for version 2 the attention on its prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peft_lab.core.field import Values
from peft_lab.methods.ptuning.spec import is_deep
from peft_lab.methods.recording.recorder import Recorder
from peft_lab.methods.recording.trained_tokens import DeepRecorder, SoftTokenRecorder
from peft_lab.models.shapes import ModelShape

if TYPE_CHECKING:
    import torch


def RunRecorder(model: torch.nn.Module, shape: ModelShape, values: Values) -> Recorder:
    """Return the recorder of the version that is trained."""
    return (DeepRecorder if is_deep(values) else SoftTokenRecorder)(model, shape, values)
