"""Every fault by name."""

from __future__ import annotations

from functools import cache

from peft_lab.clinic.fault import Fault
from peft_lab.clinic.faults_training import DATA, TRAINING
from peft_lab.clinic.faults_using import LOADING, SAVING
from peft_lab.errors import UnknownName


@cache
def all_faults() -> dict[str, Fault]:
    """All of them, in the order of an adapter's life: trained, saved, loaded."""
    return {fault.name: fault for fault in (*TRAINING, *DATA, *SAVING, *LOADING)}


def get_fault(name: str) -> Fault:
    """One fault. Raises :class:`UnknownName`."""
    if name not in all_faults():
        raise UnknownName("fault", name, all_faults(), "fault")
    return all_faults()[name]
