"""The work of a step, traced in the process that simulates memory: one trace, two readers."""

from __future__ import annotations

from peft_lab.memory.request import StepRequest
from peft_lab.memory.simulate import work_of
from peft_lab.memory.work import Work
from peft_lab.workers import inspector


def traced(request: StepRequest) -> Work:
    """What the last of the simulated steps does. Imports torch.

    Raises:
        BadInput, SimulationError: as :func:`peft_lab.memory.simulate.simulate`.
    """
    return work_of(request)


def work(request: StepRequest) -> Work:
    """The same from the process that answers questions about memory, which keeps its answers."""
    return inspector.get_inspector(inspector.Worker.MEMORY).ask(traced, request)
