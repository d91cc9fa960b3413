"""Small experiments that show what a method can and cannot do; each method's own stand in its folder.

``methods/<slug>/experiments.py`` defines ``EXPERIMENTS``, a tuple of
:class:`~peft_lab.experiments.base.Experiment`; nothing else lists it.
"""

from __future__ import annotations

from functools import cache

from peft_lab.experiments.base import Experiment
from peft_lab.methods import all_methods, part_of


@cache
def of_method(slug: str) -> tuple[Experiment, ...]:
    """The experiments of a method, in the order in which they are shown; empty for a method without any."""
    own = part_of(slug, "experiments")
    return () if own is None else own.EXPERIMENTS


def all_experiments() -> tuple[Experiment, ...]:
    """Every experiment, in the order of the methods."""
    return tuple(experiment for slug in all_methods() for experiment in of_method(slug))
