"""What a run of P-Tuning notes: version 1 what its encoder makes, version 2 the attention on its deep prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peft_lab.insight.deep_prompts import DeepRecorder
from peft_lab.insight.recorder import Recorder
from peft_lab.insight.soft_tokens import SoftTokenRecorder
from peft_lab.insight.watching import deep_prompts, soft_tokens
from peft_lab.methods.knobs import Values
from peft_lab.methods.ptuning.spec import is_deep
from peft_lab.models.shapes import ModelShape
from peft_lab.trajectory.watched import Watching

if TYPE_CHECKING:
    import torch


def RunRecorder(model: torch.nn.Module, shape: ModelShape, values: Values) -> Recorder:
    """The recorder of the version that is trained."""
    return (DeepRecorder if is_deep(values) else SoftTokenRecorder)(model, shape, values)


def watched(model: torch.nn.Module, shape: ModelShape, values: Values) -> Watching:
    """The parts of the version that is trained."""
    return (deep_prompts if is_deep(values) else soft_tokens)(model, shape, values)
