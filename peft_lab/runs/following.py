"""What is heard of a run's steps: the phases for its recorder, one step measured, and every step's event."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peft_lab import insight
from peft_lab.models import loading
from peft_lab.runs import measuring
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import Run
from peft_lab.training.loop import Made
from peft_lab.training.precision import Masters
from peft_lab.training.sizes import size_of
from peft_lab.training.step import Phase
from peft_lab.trajectory.recorder import TrajectoryRecorder

if TYPE_CHECKING:
    import torch

TRACKED_STEP = 2  # the third step: optimizer states exist, and the first loss is not delayed


@dataclass
class Following:
    """Hears the phases of every step for the recorder, and measures one of them."""

    base: loading.Base
    model: torch.nn.Module
    spec: RunSpec
    masters: Masters
    optimizer: torch.optim.Optimizer
    recorder: insight.Recorder
    attention: str
    trajectory: TrajectoryRecorder
    measured: dict[str, Any] | None = None

    @contextmanager
    def step(self, step: int, batch: Mapping[str, torch.Tensor]) -> Iterator[Phase]:
        base, spec = self.base, self.spec
        tracker = None
        if step == tracked_step(spec):
            entry = base.entry
            tracker = measuring.StepTracker(
                self.model, self.masters, self.optimizer, entry.kind, entry.shape.num_layers
            )
        with measuring.tracking(tracker) as tracked, self.trajectory.following(step):

            def heard(phase: str) -> None:
                if phase == "optimizer":
                    self.recorder.after_backward(step)
                    self.trajectory.after_backward(step)
                tracked(phase)

            yield heard
        self.measured = None
        if tracker is not None:
            size = size_of(batch)
            self.measured = {**tracker.result(), **size, "attention": self.attention}


def tracked_step(spec: RunSpec) -> int:
    """The step whose memory is measured."""
    return min(TRACKED_STEP, spec.steps - 1)


def report(run: Run, made: Made, measured: dict[str, Any] | None) -> None:
    """Tell of a step that was made, and of its memory where it was measured."""
    run.log.emit(
        "step",
        step=made.step + 1,
        loss=made.loss,
        lr=made.rate,
        grad_norm=made.norm,
        tokens=made.tokens,
        seconds=made.seconds,
        tracked=measured is not None,
    )
    if measured is not None:
        run.log.emit("memory", **measured)
