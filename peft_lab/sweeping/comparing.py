"""A comparison's runs carried out several at a time, by an executor that has room for them."""

from __future__ import annotations

from peft_lab.compare.store import Comparison
from peft_lab.sweeping import carrying
from peft_lab.sweeping.carrying import Watch
from peft_lab.sweeping.on_ray import OnRay


def carry_out(comparison: Comparison, executor: OnRay, watch: Watch) -> bool:
    """Make every run that is not done yet, failed ones once more; ``False`` when asked to stop before the end.

    Which methods run beside each other on a node depends on when each ends: their seconds are those of a shared machine
    where a node takes more than one.

    Raises:
        RunError: the comparison is under way already. BadInput: a node cannot say what it is.
    """
    specs = [cell.spec for cell in comparison.plan.cells]

    def stop() -> bool:
        comparison.beat()
        return comparison.asked_to_stop()

    with comparison.claimed(executor.machines()):
        carrying.made(specs, executor, watch, stop)
        return not comparison.asked_to_stop()
