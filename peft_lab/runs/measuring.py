"""Measured memory: the tensors of one real training step, and the resident set of the whole process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from peft_lab.memory import tracker

if TYPE_CHECKING:
    import torch

    from peft_lab.runs.precision import Masters

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
    """Every tensor alive during one step of a real run, those that were there before it included."""

    def __init__(self, model: torch.nn.Module, masters: Masters, optimizer: torch.optim.Optimizer) -> None:
        self.recorder = tracker.Recorder()
        self._model = model
        self._masters = masters
        for parameter in model.parameters():
            self.recorder.see(parameter.data, "adapter" if parameter.requires_grad else "weights")
        for buffer in model.buffers():
            self.recorder.see(buffer, "weights")
        for master in masters.parameters:
            self.recorder.see(master.detach(), "optimizer")
        for state in optimizer.state.values():
            for value in state.values():
                for tensor in tracker.tensors_in(value):
                    self.recorder.see(tensor, "optimizer")

    def enter(self, phase: str) -> None:
        if phase == "optimizer":
            self._label_gradients()
        self.recorder.enter(phase)

    def _label_gradients(self) -> None:
        for parameter in (*self._model.parameters(), *self._masters.parameters):
            number = None if parameter.grad is None else self.recorder.number(parameter.grad)
            if number is not None:
                self.recorder.trace.storages[number].part = "gradients"

    def result(self) -> dict[str, Any]:
        """``peak_bytes`` of tensors alive at once, and ``parts`` of it at that moment."""
        trace = self.recorder.stop()
        live: dict[str, int] = {}
        total = peak = 0
        at_peak: dict[str, int] = {}
        for event in trace.events:
            born = event >= 0
            storage = trace.storages[event if born else ~event]
            change = storage.nbytes if born else -storage.nbytes
            part = storage.part or "activations"
            live[part] = live.get(part, 0) + change
            total += change
            if total > peak:
                peak, at_peak = total, dict(live)
        return {"peak_bytes": peak, "parts": {part: size for part, size in at_peak.items() if size}}


@contextmanager
def tracking(step: StepTracker | None) -> Iterator[Callable[[str], None]]:
    """Track what happens inside, with a function that says which phase begins; do nothing without a tracker."""
    if step is None:
        yield lambda phase: None
        return
    with tracker.recording(step.recorder):
        yield step.enter
