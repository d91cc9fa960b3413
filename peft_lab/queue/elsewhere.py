"""A run in a process that an engine started, on this machine or another: as a Ray task, say.

The engine starts it again where the process or its node was lost. The run then goes on from its latest state, in the
same folder: it is trained once, whoever carried out which of its steps.
"""

from __future__ import annotations

from pathlib import Path

from peft_lab.queue import worker
from peft_lab.runs import going_on, hold
from peft_lab.runs.store import Run

LOST = "The process or the node that trained it was lost; it goes on elsewhere."


def carry(folder: str, home: str, turn: float, threads: int) -> str:
    """Train the run in ``folder`` in this process, which nothing else may use; how it stands then.

    Args:
        home: the lab folder, with the weights.
        turn: what of the run's turns it is asked for, the same each time that the engine starts it again; one that was
            queued again by its owner since is left alone.
        threads: that torch may compute with.

    Raises:
        RunError: the process that trained it before does not end, or the run cannot be read.
    """
    run = Run(Path(folder).name, Path(folder))
    if going_on.asked(run) == turn and not run.status().final:
        # One that was lost before it had begun leaves the turn that it had made of it.
        turn = going_on.taken_over(run, LOST) if going_on.begun(run) else hold.turn(run)
    worker.main(folder, home, turn, threads)
    return str(run.status())
