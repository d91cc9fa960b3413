"""What a run of P-Tuning records: for version 1 its encoder's output, for version 2 the attention on its prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peft_lab.ask.field import Values
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
    """Return the recorder of the version that is trained."""
    return (DeepRecorder if is_deep(values) else SoftTokenRecorder)(model, shape, values)


def watched(model: torch.nn.Module, shape: ModelShape, values: Values) -> Watching:
    """Watch the parts of the version that is trained."""
    return (deep_prompts if is_deep(values) else soft_tokens)(model, shape, values)
