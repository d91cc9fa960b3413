"""What a run records for its method's own picture ("Look inside"), during training and at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peft_lab.ask.field import Values
from peft_lab.methods import part_of
from peft_lab.methods.base import MethodSpec
from peft_lab.methods.recording.recorder import Recorder
from peft_lab.models.shapes import ModelShape

if TYPE_CHECKING:
    import torch

__all__ = ["Recorder", "start"]


def start(method: MethodSpec, model: torch.nn.Module, shape: ModelShape, values: Values) -> Recorder:
    """Return the recorder for a method's run, given an adapted model before training.

    The class ``RunRecorder`` in the method's ``recording`` provides it; without one nothing is recorded.
    """
    recording = part_of(method.slug, "recording")
    kind: type[Recorder] = Recorder if recording is None else recording.RunRecorder
    if shape.kind == "vision" and not kind.sees:
        kind = Recorder
    return kind(model, shape, values)
