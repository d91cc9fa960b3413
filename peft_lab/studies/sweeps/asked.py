"""Read and check a sweep file: which runs it asks for, in order.

YAML or JSON::

    model: minilm-l6
    task: sentiment
    methods: [lora, ia3]
    steps: 60                        # batch, eval_rows: as for train
    seeds: [0, 1]
    grid:                            # every combination; a knob applies to the methods that have it
      r: [4, 8]
      learning_rate: [0.001, 0.003]

    stop: asha                       # end early what does badly; or {by: asha, grace: 15, factor: 4}

or, in place of ``grid``, ``random: {runs: 10, learning_rate: {min: 0.0001, max: 0.01, log: true}, r: [4, 8, 16]}``: ten
settings of each method, the same whenever the file is read.
"""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from peft_lab.core import disk
from peft_lab.core.errors import BadInput, UnknownName, echoed
from peft_lab.methods import get_method
from peft_lab.methods.base import MethodSpec
from peft_lab.runs.spec import STEPS, RunRequest, RunSpec
from peft_lab.studies.sweeps import asha
from peft_lab.studies.sweeps.asha import Asha

RATE = "learning_rate"
MOST_RUNS = 10_000
_LARGEST = 1 << 20  # bytes of a file
_MOST_VALUES = 100_000
_KEYS = ("model", "task", "methods", "steps", "batch", "seeds", "eval_rows", "grid", "random", "stop")


@dataclass(frozen=True)
class Sweep:
    """The requested runs, each once, the first seed of every setting before the second; the early stopping."""

    specs: tuple[RunSpec, ...]
    early: Asha | None = None


def read(path: Path) -> Sweep:
    """Read a sweep file.

    Raises:
        BadInput: the file cannot be read, or the first problem in it. AssetError: weights or data must be
            downloaded first.
    """
    text = disk.take_text(path, _LARGEST, "file", "The sweep file ")
    try:
        content = yaml.safe_load(text)
    # PyYAML's constructors let errors under a tag such as !!bool or !!timestamp through unchanged.
    except (yaml.YAMLError, ValueError, RecursionError, LookupError, AttributeError, TypeError) as error:
        raise BadInput(f"{path} is no YAML or JSON: {' '.join(str(error).split())}.", "file") from error
    if not isinstance(content, dict):
        raise BadInput(f"{path} holds no settings; a sweep file starts with 'model:'.", "file")
    _require_plain(content, path)
    return of(content)


def _require_plain(content: object, path: Path) -> None:
    """Raise BadInput for a value that JSON cannot hold, such as a date, or too many values (aliases expanded)."""
    waiting, seen = [content], 0
    while waiting:
        value, seen = waiting.pop(), seen + 1
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value
        elif value is not None and not isinstance(value, str | int | float):
            raise BadInput(
                f"{path} holds '{echoed(value)}', a {type(value).__name__}; a sweep file holds texts, numbers, true "
                "and false, and lists of them.",
                "file",
            )
        if seen + len(waiting) > _MOST_VALUES:
            raise BadInput(
                f"{path} holds more than {_MOST_VALUES:,} values, its aliases written out.", "file"
            )


def of(content: Mapping[str, Any]) -> Sweep:
    """Return the runs that the content of a sweep file asks for, each once.

    Raises:
        BadInput: a setting is missing or invalid, or there are more than :data:`MOST_RUNS` runs.
        UnknownName: a key, method, model, task or knob does not exist.
    """
    for key in content:
        if key not in _KEYS:
            raise UnknownName("setting of a sweep", str(key), _KEYS, str(key))
    for key in ("model", "task", "methods"):
        if not content.get(key):
            raise BadInput(f"The sweep file names no {key}.", key)
    slugs = _listed(content, "methods", str)
    methods = [get_method(slug) for slug in dict.fromkeys(slugs)]
    seeds = _listed(content, "seeds", int) if "seeds" in content else [0]
    if ("grid" in content) and ("random" in content):
        raise BadInput("A sweep is a grid or random; the file has both.", "grid")
    key = "random" if "random" in content else "grid"
    varied = content.get(key) or {}
    if not isinstance(varied, dict):
        raise BadInput(f"'{key}' takes settings with their values, such as r: [4, 8].", key)
    _check_names(varied, methods)
    settings = _drawn if key == "random" else _combined
    requests = [
        _request(content, method, values, seed)
        for seed in dict.fromkeys(seeds)
        for method in methods
        for values in settings(varied, method)
    ]
    if len(requests) > MOST_RUNS:
        raise BadInput(f"A sweep takes at most {MOST_RUNS:,} runs; these are {len(requests):,}.", key)
    # Two settings that are equal once defaults are filled in are one run.
    specs = {json.dumps(spec.to_dict(), sort_keys=True): spec for spec in (r.complete() for r in requests)}
    found = tuple(specs.values())
    early = None if content.get("stop") is None else asha.parse(content["stop"], found[0].steps)
    return Sweep(found, early)


def _request(
    content: Mapping[str, Any], method: MethodSpec, values: Mapping[str, Any], seed: int
) -> RunRequest:
    knobs = {name: value for name, value in values.items() if name != RATE}
    return RunRequest(
        model=str(content["model"]),
        method=method.slug,
        task=str(content["task"]),
        values=knobs,
        steps=content.get("steps", STEPS),
        batch=content.get("batch"),
        seed=seed,
        learning_rate=values.get(RATE),
        eval_rows=content.get("eval_rows"),
    )


def _listed(content: Mapping[str, Any], key: str, kind: type) -> list[Any]:
    found = content[key]
    if not isinstance(found, list) or not found or any(type(each) is not kind for each in found):
        what = "names" if kind is str else "whole numbers"
        raise BadInput(
            f"'{key}' takes a list of {what}, such as {'[lora]' if kind is str else '[0, 1]'}.", key
        )
    return found


def _check_names(varied: Mapping[str, Any], methods: Sequence[MethodSpec]) -> None:
    known = [RATE, *dict.fromkeys(knob.name for method in methods for knob in method.knobs)]
    for name in varied:
        if name not in known and name != "runs":
            raise UnknownName("knob of these methods", str(name), known, str(name))


def _has(method: MethodSpec, name: str) -> bool:
    return name == RATE or any(knob.name == name for knob in method.knobs)


def _parsed(method: MethodSpec, name: str, value: Any) -> Any:
    """Return a value as the method takes it, from a number, a text or a list."""
    if name == RATE:
        try:
            return float(value)
        except (TypeError, ValueError):
            raise BadInput(f"A learning rate is a number; '{echoed(value)}' is not.", RATE) from None
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return method.knob(name).parse(text)


def _combined(varied: Mapping[str, Any], method: MethodSpec) -> Iterator[dict[str, Any]]:
    own = {name: values for name, values in varied.items() if _has(method, name)}
    if "runs" in varied:
        raise BadInput("'runs' belongs to random; a grid is every combination.", "grid")
    for name, values in own.items():
        if not isinstance(values, list) or not values:
            raise BadInput(f"'{echoed(name)}' takes a list of values in a grid, such as [4, 8].", name)
    for values in itertools.product(*own.values()):
        yield {name: _parsed(method, name, value) for name, value in zip(own, values, strict=True)}


def _drawn(varied: Mapping[str, Any], method: MethodSpec) -> Iterator[dict[str, Any]]:
    runs = varied.get("runs")
    if type(runs) is not int or not 1 <= runs <= MOST_RUNS:
        raise BadInput(f"'random' says how many with 'runs', from 1 to {MOST_RUNS:,}.", "random")
    chance = random.Random(method.slug)
    own = {name: values for name, values in varied.items() if name != "runs" and _has(method, name)}
    for _ in range(runs):
        yield {name: _parsed(method, name, _draw(name, values, chance)) for name, values in own.items()}


def _draw(name: str, values: Any, chance: random.Random) -> Any:
    if isinstance(values, list) and values:
        return chance.choice(values)
    if isinstance(values, dict) and set(values) - {"log"} == {"min", "max"}:
        low, high = values["min"], values["max"]
        logarithmic = bool(values.get("log"))
        numbers = all(type(each) in (int, float) for each in (low, high))
        if numbers and low < high and (low > 0 or not logarithmic):
            if logarithmic:
                drawn = math.exp(chance.uniform(math.log(low), math.log(high)))
            else:
                drawn = chance.uniform(low, high)
            return round(drawn) if type(low) is int and type(high) is int else float(f"{drawn:.3g}")
    raise BadInput(
        f"'{echoed(name)}' takes a list, or min and max with min below max (above 0 where log is true).", name
    )


# ----------------------------------------
# An example sweep: minutes on a laptop, with all that a sweep's page can show.


NAME = "sweep.yaml"
EXAMPLE_FILE = """\
model: minilm-l6
task: sentiment
methods: [lora]
steps: 30
eval_rows: 200
seeds: [0, 1]
grid:
  r: [2, 8]
  learning_rate: [0.001, 0.003, 0.01]
"""
COMMAND = f"python -m peft_lab sweep {NAME}"
