"""When one run stands for another: it trained the same, and measured what the other is asked for."""

from __future__ import annotations

from dataclasses import fields
from operator import attrgetter
from typing import Any

from peft_lab.errors import BadInput
from peft_lab.methods import get_method
from peft_lab.methods.knobs import read
from peft_lab.runs.spec import RunSpec, entry_of

# What a run is asked for beside its training; values are compared as the method reads them.
_ASKED = ("probes", "compared")
_trained = attrgetter(*(item.name for item in fields(RunSpec) if item.name not in ("values", *_ASKED)))


def stands_for(run: RunSpec, wanted: RunSpec) -> bool:
    """Whether what a run of one spec gave is what a run of ``wanted`` would give.

    The first may have been stored by an earlier version: a knob that it lacks counts as at its default, and one that is
    gone makes it another run.
    """
    if _trained(run) != _trained(wanted) or not (wanted.compared <= run.compared):
        return False
    try:
        return set(wanted.probes) <= set(run.probes) and knobs_read(run) == knobs_read(wanted)
    except BadInput:
        return False


def knobs_read(spec: RunSpec) -> dict[str, Any]:
    """A run's knobs, those left out at their defaults, without those that others make idle.

    Raises:
        BadInput: a knob that there is not, or a value that it cannot have.
    """
    method = get_method(spec.method)
    return read(method.knobs, method.complete(entry_of(spec.model).shape, spec.values))
