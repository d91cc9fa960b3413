"""What a run notes for its method's own picture ("Look inside"), while it trains and at its end."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING

from peft_lab.insight.recorder import Recorder
from peft_lab.methods.base import MethodSpec
from peft_lab.methods.knobs import Values
from peft_lab.shapes import ModelShape

if TYPE_CHECKING:
    import torch

__all__ = ["Recorder", "start"]


def start(method: MethodSpec, model: torch.nn.Module, shape: ModelShape, values: Values) -> Recorder:
    """The recorder of a method's run on an adapted model that has not been trained.

    A module ``peft_lab/insight/<slug>_run.py`` with a class ``RunRecorder`` provides it; without one nothing is noted.
    """
    name = f"{__name__}.{method.slug}_run"
    if importlib.util.find_spec(name) is None:
        return Recorder(model, shape, values)
    kind: type[Recorder] = importlib.import_module(name).RunRecorder
    return kind(model, shape, values)
