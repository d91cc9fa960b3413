"""A run as one line of a list."""

from __future__ import annotations

from dataclasses import dataclass

from peft_lab.runs.said import Kept
from peft_lab.runs.spec import RunSpec

DAMAGED = "damaged"


@dataclass(frozen=True)
class RunSummary:
    """One line of the list of runs.

    Attributes:
        status: a :class:`Status`, or ``damaged`` for a folder that cannot be read; ``problem`` says why.
        created: seconds since 1970.
        before, after: headline metric of base and tuned model, a share; ``None`` where it was not evaluated.
        metric: its name, ``metric_title`` as it is written over a figure.
        peak_bytes: tensor memory of one training step; seconds: from the start of its process to the
            end, or of training until now.
        kept: what was said of its seconds before it started, if anything was.
    """

    id: str
    status: str
    created: float
    model: str = ""
    method: str = ""
    task: str = ""
    steps: int = 0
    seed: int = 0
    metric: str = ""
    metric_title: str = ""
    before: float | None = None
    after: float | None = None
    peak_bytes: int | None = None
    trainable: int | None = None
    seconds: float | None = None
    spec: RunSpec | None = None
    problem: str = ""
    kept: Kept | None = None
