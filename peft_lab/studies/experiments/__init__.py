"""Small experiments that show what a method can and cannot do, in one module for each method, named by its slug.

``studies/experiments/<slug>.py`` defines ``EXPERIMENTS``, a tuple of
:class:`~peft_lab.studies.experiments.base.Experiment`; nothing else lists them.
"""

from __future__ import annotations

from functools import cache

from peft_lab.methods import all_methods, module_of
from peft_lab.studies.experiments.base import Experiment


@cache
def of_method(slug: str) -> tuple[Experiment, ...]:
    """Return the experiments of a method in display order; empty for a method without any."""
    own = module_of(__name__, slug)
    return () if own is None else own.EXPERIMENTS


def all_experiments() -> tuple[Experiment, ...]:
    """Return every experiment, in the order of the methods."""
    return tuple(experiment for slug in all_methods() for experiment in of_method(slug))
