"""What a run of P-Tuning notes: version 1 what its encoder makes, version 2 the attention on its deep prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peft_lab.methods.base import Values
from peft_lab.methods.ptuning.spec import is_deep
from peft_lab.methods.recording.attention import DeepRecorder
from peft_lab.methods.recording.parts import Watching
from peft_lab.methods.recording.recorder import Recorder
from peft_lab.methods.recording.soft_tokens import SoftTokenRecorder
from peft_lab.methods.recording.watching import deep_prompts, soft_tokens
from peft_lab.models.shapes import ModelShape

if TYPE_CHECKING:
    import torch


def RunRecorder(model: torch.nn.Module, shape: ModelShape, values: Values) -> Recorder:
    """The recorder of the version that is trained."""
    return (DeepRecorder if is_deep(values) else SoftTokenRecorder)(model, shape, values)


def watched(model: torch.nn.Module, shape: ModelShape, values: Values) -> Watching:
    """The parts of the version that is trained."""
    return (deep_prompts if is_deep(values) else soft_tokens)(model, shape, values)
