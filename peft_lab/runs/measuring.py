"""Measured memory: the tensors of one real training step, and the resident set of the whole process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from peft_lab.memory import build, noting, tracker
from peft_lab.memory.account import timeline
from peft_lab.memory.result import largest
from peft_lab.memory.step import Subject, phases, watching

if TYPE_CHECKING:
    import torch

    from peft_lab.training.precision import Masters

COARSE = ("weights", "adapter", "gradients", "optimizer", "activations")
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_process_peak() -> None:
    """Forget the process's peak so far: a forked child inherits its parent's. Does nothing where that is not Linux."""
    if _CLEAR.exists():
        _CLEAR.write_text("5")


def process_peak() -> int:
    """The largest resident set of this process since it began or was reset, in bytes."""
    if _STATUS.exists():
        lines = _STATUS.read_text("ascii", "replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    memory = psutil.Process().memory_info()
    return int(getattr(memory, "peak_wset", memory.rss))


class StepTracker:
    """Every tensor alive during one step of a real run, those that were there before it included.

    Its figures are named as a simulation's (:mod:`peft_lab.memory`), so that the two stand side by side.
    """

    def __init__(
        self, model: Any, masters: Masters, optimizer: torch.optim.Optimizer, kind: str, num_layers: int
    ) -> None:
        self.recorder = tracker.Recorder()
        layers = build.stacked_layers(model, num_layers)
        self.subject = Subject(model, kind, layers, head=build.output_head(model, kind))
        for tensor, part in _present(model, masters, optimizer):
            self.recorder.see(tensor, part)

    def result(self) -> dict[str, Any]:
        """``peak_bytes`` of tensors alive at once, its ``parts`` (finer in ``detail``), and the step's ``timeline``."""
        points = timeline(self.recorder.stop())
        top = largest(points)
        coarse = {name: top.parts[name] for name in COARSE}
        return {
            "peak_bytes": top.nbytes,
            "parts": {**coarse, "other": top.nbytes - sum(coarse.values())},
            "detail": top.parts,
            "timeline": [
                {"phase": point.phase, "layer": point.layer, "bytes": point.nbytes} for point in points
            ],
        }


def _present(
    model: Any, masters: Masters, optimizer: torch.optim.Optimizer
) -> Iterator[tuple[torch.Tensor, str]]:
    """Every tensor that is there before the step, and its part."""
    for parameter in model.parameters():
        yield parameter.data, "adapter" if parameter.requires_grad else "weights"
        yield from ((constant, "quantisation") for constant in _constants(parameter))
    for module in model.modules():
        yield from ((constant, "quantisation") for constant in _scales(module))
    yield from ((buffer, "weights") for buffer in model.buffers())
    yield from ((master.detach(), "optimizer") for master in masters.parameters)
    states = (value for state in optimizer.state.values() for value in state.values())
    yield from ((tensor, "optimizer") for value in states for tensor in noting.tensors_in(value))


def _constants(parameter: Any) -> Iterator[torch.Tensor]:
    """The block constants beside a 4-bit matrix (bitsandbytes' QuantState)."""
    import torch

    state = getattr(parameter, "quant_state", None)
    while state is not None:
        for value in vars(state).values():
            if isinstance(value, torch.Tensor):
                yield value
        state = getattr(state, "state2", None)


def _scales(module: Any) -> Iterator[torch.Tensor]:
    """The scales of an 8-bit matrix's rows: beside the weight at first, in the module's state once it was used."""
    for owner in (getattr(module, "weight", None), getattr(module, "state", None)):
        scales = getattr(owner, "SCB", None)
        if scales is not None:
            yield scales


@contextmanager
def tracking(step: StepTracker | None) -> Iterator[Callable[[str], None]]:
    """Track what happens inside, with a function that says which phase begins; do nothing without a tracker."""
    if step is None:
        yield lambda phase: None
        return
    enter = phases(step.subject, step.recorder)
    with watching(step.subject, step.recorder), tracker.recording(step.recorder):
        yield (
            lambda phase: None if phase == "zero_grad" else enter(phase)
        )  # measured from the forward pass on
