"""Small experiments that show what a method can and cannot do. A module here named after a method's slug holds its own.

Such a module defines ``EXPERIMENTS``, a tuple of :class:`~peft_lab.experiments.base.Experiment`; nothing else lists it.
"""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache

from peft_lab.experiments.base import Experiment
from peft_lab.methods import all_methods


@cache
def of_method(slug: str) -> tuple[Experiment, ...]:
    """The experiments of a method, in the order in which they are shown; empty for a method without any."""
    name = f"{__name__}.{slug}"
    if importlib.util.find_spec(name) is None:
        return ()
    found: tuple[Experiment, ...] = importlib.import_module(name).EXPERIMENTS
    return found


def all_experiments() -> tuple[Experiment, ...]:
    """Every experiment, in the order of the methods."""
    return tuple(experiment for slug in all_methods() for experiment in of_method(slug))
