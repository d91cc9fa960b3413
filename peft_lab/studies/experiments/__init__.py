"""Small experiments that show what a method can and cannot do: ``studies/experiments/<slug>.yaml`` for each method.

A file has ``usual``, fields that hold for all of its ``experiments``, whose entries are the fields of
:class:`~peft_lab.studies.experiments.base.Experiment`. Nothing else lists them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import yaml

from peft_lab.core import kinds
from peft_lab.core.errors import BadInput
from peft_lab.engine.published.rows import right
from peft_lab.methods import all_methods
from peft_lab.studies.experiments.base import QUANTITIES, Arm, Expectation, Experiment

#: Where a sentence has the score of a row of the published comparison: ``{published lora-rank32}``.
_PUBLISHED = re.compile(r"\{published (.+?)\}")


@cache
def of_method(slug: str) -> tuple[Experiment, ...]:
    """Return the experiments of a method in display order; empty for a method without any.

    Raises:
        BadInput: an entry of its file is invalid.
    """
    file = resources.files(__name__) / f"{slug}.yaml"
    if not file.is_file():
        return ()
    content = yaml.safe_load(file.read_text("utf-8"))
    return tuple(_experiment(slug, {**content["usual"], **entry}) for entry in content["experiments"])


def all_experiments() -> tuple[Experiment, ...]:
    """Return every experiment, in the order of the methods."""
    return tuple(experiment for slug in all_methods() for experiment in of_method(slug))


def _experiment(slug: str, entry: Mapping[str, Any]) -> Experiment:
    where = f"{slug}.yaml, {entry.get('id')}"
    try:
        arms = tuple(Arm(**_frozen(kinds.read(Arm, arm, "An arm"))) for arm in entry["arms"])
        expect = Expectation(**_frozen(kinds.read(Expectation, entry["expect"], "The expectation")))
        quantities = tuple(QUANTITIES[name] for name in entry["quantities"])
        fields: dict[str, Any] = {
            name: _PUBLISHED.sub(lambda row: right(row[1]), value) if isinstance(value, str) else value
            for name, value in entry.items()
        }
        fields |= {"arms": arms, "expect": expect, "quantities": quantities}
        return Experiment(method=slug, **fields)
    except (BadInput, KeyError, TypeError) as error:
        raise BadInput(f"{where}: {error}") from error


def _frozen(value: Any) -> Any:
    """Return JSON-like content with its lists as tuples."""
    if isinstance(value, Mapping):
        return {name: _frozen(inner) for name, inner in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value
