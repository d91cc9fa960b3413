"""The simulated counterpart of a run's measured step: the same batch, by its size alone."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from peft_lab.memory.lab import LabBatch, simulate_lab
from peft_lab.memory.request import StepRequest
from peft_lab.workers import inspector

#: What the ``memory`` event says of the tracked batch; see :class:`peft_lab.memory.lab.LabBatch`.
BATCH = ("rows", "length", "kept", "predicted", "padded")


def peak_of_step(request: StepRequest) -> int:
    """Peak of the tensors of one step of a run in bytes. Imports torch.

    Raises:
        BadInput, SimulationError: as :func:`peft_lab.memory.lab.simulate_lab`.
    """
    return simulate_lab(request).peak_bytes


def ask_of_run(record: Mapping[str, Any]) -> Future[int] | None:
    """The same for the tracked step of a run, from its record, as a future; ``None`` where no step was measured."""
    memory, spec = record["memory"] or {}, record["spec"]
    if not all(name in memory for name in BATCH):
        return None
    batch = LabBatch.of(memory, record["device"], memory.get("attention"))
    asked = StepRequest(spec["model"], spec["method"], spec["values"], batch, record["dtype"])
    return inspector.get_inspector(inspector.Worker.MEMORY).submit(peak_of_step, asked)


def peak_of_run(record: Mapping[str, Any]) -> int | None:
    """:func:`ask_of_run`, waited for.

    Raises:
        BadInput, SimulationError: the step cannot be simulated, with the reason.
    """
    asked = ask_of_run(record)
    return None if asked is None else asked.result()
