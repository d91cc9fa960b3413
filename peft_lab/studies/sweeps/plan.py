"""Read and check a sweep file, and stop poor runs early: Ray Tune's asynchronous successive halving decides at rungs
which runs continue, on any executor.

At the first rung (``grace`` steps), then at each ``factor`` times as many, a run is compared with those that
reached the rung before; it continues if its loss is in the best 1/``factor`` of them. The loss is the training
loss, averaged over the last quarter of the steps up to the rung: held-out rows are scored after the run's end.

The decisions are stored in the runs' folders (:mod:`peft_lab.runs.checkpoints`), so a later command keeps them.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from peft_lab.core import disk
from peft_lab.core.errors import BadInput, PeftLabError, UnknownName, echoed
from peft_lab.methods import get_method
from peft_lab.methods.base import STEPS, MethodSpec
from peft_lab.runs import checkpoints
from peft_lab.runs.checkpoints import Rung, Verdicts
from peft_lab.runs.spec import RunRequest, RunSpec, entry_of, usual_eval_rows
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status
from peft_lab.studies.store import status_of
from peft_lab.training.tasks import get_task

NAME, LOSS = "asha", "loss"
FACTOR = 4  # Ray Tune's default
WINDOW = 4  # the loss is averaged over the last 1/WINDOW of the steps up to a rung
_KEYS = ("by", "grace", "factor", "metric")
_TRAINS = (Status.STARTING, Status.RUNNING)


@dataclass(frozen=True)
class Asha:
    """The requested settings. ``grace``: steps of the first rung; ``steps``: those of a complete run."""

    grace: int
    factor: int
    steps: int

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a sweep file holds them, with the rule's name under ``by``."""
        return {"by": NAME, **asdict(self)}

    @property
    def rungs(self) -> tuple[int, ...]:
        """Return the numbers of steps at which runs are compared.

        >>> Asha(5, 3, 60).rungs
        (5, 15, 45)
        """
        found, at = [], self.grace
        while at < self.steps:
            found.append(at)
            at *= self.factor
        return tuple(found)


def parse(content: Any, steps: int) -> Asha:
    """Read ``stop`` of a sweep file: ``asha``, or its settings with ``by: asha``. ``content``: the value under
    ``stop``. ``steps``: training steps of each run; the grace period must be shorter. Raises BadInput for another
    rule or metric, or a number out of range, UnknownName if ``stop`` has no such setting."""
    given: Mapping[Any, Any] = {"by": content} if isinstance(content, str) else content
    if not isinstance(given, dict) or given.get("by") != NAME:
        raise BadInput("'stop' must be asha or {by: asha, grace: 15, factor: 4}.", "stop")
    for key in given:
        if key not in _KEYS:
            raise UnknownName("setting of stop", str(key), _KEYS, "stop")
    if given.get("metric", LOSS) != LOSS:
        raise BadInput(
            "Runs can be ended early only by their training 'loss', because held-out rows are scored only after a "
            "run has ended.",
            "stop",
        )
    grace, factor = given.get("grace", max(1, steps // FACTOR)), given.get("factor", FACTOR)
    if type(grace) is not int or not 1 <= grace < steps:
        raise BadInput(f"'grace' must be a number of steps from 1 to {steps - 1}, not {grace}.", "stop")
    if type(factor) is not int or not 2 <= factor <= 100:
        raise BadInput(f"'factor' must be a whole number from 2 to 100, not {factor}.", "stop")
    return Asha(grace, factor, steps)


class Judge:
    """Decides which runs of one sweep continue."""

    def __init__(self, wanted: Asha, sweep: str) -> None:
        """Set the scheduler up. Raises BadInput if Ray Tune is not installed."""
        try:
            from ray.tune.schedulers import ASHAScheduler
        except ImportError as error:
            raise BadInput(
                f"'stop: asha' needs Ray Tune. Install it: pip install 'peft-lab[cluster]' ({error}).", "stop"
            ) from None
        self._wanted, self._sweep = wanted, sweep
        self._scheduler: Any = ASHAScheduler(
            time_attr="step",
            metric=LOSS,
            mode="min",
            max_t=wanted.steps,
            grace_period=wanted.grace,
            reduction_factor=wanted.factor,
        )
        self._known: dict[str, list[Rung]] = {}
        self._over: dict[str, int] = {}  # runs that have ended and were examined, with their stamps

    def look(self, runs: Sequence[Run]) -> None:
        """Decide about the runs that have reached a rung; decisions of an earlier command are kept."""
        for run in runs:
            if run.id not in self._known:
                self._meet(run)
        for run in runs:
            with suppress(PeftLabError):  # a run that cannot be read is reported in the sweep's rows
                self._judge(run)

    def _judge(self, run: Run) -> None:
        final, stamp = status_of(run).final, run.stamp()
        if final and self._over.get(run.id) == stamp:
            return
        known, losses = self._known[run.id], run.view().losses
        for step in self._wanted.rungs:
            if len(losses) >= step and all(rung.step != step for rung in known):
                self._decide(run, step, judged_by(losses, step))
        if final:
            self._over[run.id] = stamp

    def ended(self, run: Run) -> bool:
        """Return whether this sweep ended the run early."""
        verdicts = checkpoints.read_early(run)
        return verdicts is not None and verdicts.sweep == self._sweep and verdicts.ended_by is not None

    def _meet(self, run: Run) -> None:
        self._scheduler.on_trial_add(None, SimpleNamespace(trial_id=run.id))
        verdicts = checkpoints.read_early(run)
        kept = list(verdicts.rungs) if verdicts is not None and verdicts.sweep == self._sweep else []
        self._known[run.id] = kept
        for rung in kept:  # a rung's cutoff depends on the runs that reached it, not on their order
            self._report(run, rung.step, rung.loss)

    def _decide(self, run: Run, step: int, loss: float) -> None:
        goes_on = self._report(run, step, loss)
        # A run that has made all its steps is not ended during its evaluation.
        seen = run.view()
        goes_on = goes_on or seen.status not in _TRAINS or seen.step >= self._wanted.steps
        self._known[run.id].append(Rung(step, loss, goes_on))
        if seen.status is not Status.DONE:
            checkpoints.note_ending(run, Verdicts(self._sweep, tuple(self._known[run.id])))

    def _report(self, run: Run, step: int, loss: float) -> bool:
        """Report a loss to the scheduler; return whether the run continues."""
        trial = SimpleNamespace(trial_id=run.id)
        action = self._scheduler.on_trial_result(None, trial, {"step": step, LOSS: loss})
        return str(action) == "CONTINUE"


def judged_by(losses: Sequence[float], step: int) -> float:
    """Return the mean of the last quarter of the losses up to a step.

    >>> judged_by([9.0, 3.0, 2.0, 1.0, 0.5], 4), judged_by([9.0], 1)
    (1.0, 9.0)
    """
    return statistics.fmean(losses[step - max(1, step // WINDOW) : step])


# YAML or JSON::
#
#     model: minilm-l6
#     task: sentiment
#     methods: [lora, ia3]
#     steps: 60                        # batch, eval_rows: as for train
#     seeds: [0, 1]
#     grid:                            # every combination; a knob applies to the methods that have it
#       r: [4, 8]
#       learning_rate: [0.001, 0.003]
#
#     stop: asha                       # end poor runs early; or {by: asha, grace: 15, factor: 4}
#
# or, in place of ``grid``, ``random: {runs: 10, learning_rate: {min: 0.0001, max: 0.01, log: true}, r: [4, 8, 16]}``:
# ten settings of each method, the same whenever the file is read.


RATE = "learning_rate"
MOST_RUNS = 10_000
_LARGEST = 1 << 20  # bytes of a file
_MOST_VALUES = 100_000
_SWEEP_KEYS = ("model", "task", "methods", "steps", "batch", "seeds", "eval_rows", "grid", "random", "stop")


@dataclass(frozen=True)
class SweepRequest:
    """The requested runs, each once, the first seed of every setting before the second; the early stopping."""

    specs: tuple[RunSpec, ...]
    early: Asha | None = None


def read_sweep(path: Path) -> SweepRequest:
    """Read a sweep file. Raises BadInput with the first problem in it, AssetError if weights or data must be downloaded
    first."""
    text = disk.take_text(path, _LARGEST, "file", "The sweep file ")
    try:
        content = yaml.safe_load(text)
    # PyYAML's constructors let errors under a tag such as !!bool or !!timestamp through unchanged.
    except (yaml.YAMLError, ValueError, RecursionError, LookupError, AttributeError, TypeError) as error:
        raise BadInput(f"{path} is neither YAML nor JSON: {' '.join(str(error).split())}.", "file") from error
    if not isinstance(content, dict):
        raise BadInput(f"{path} contains no settings. Start a sweep file with 'model:'.", "file")
    _require_plain(content, path)
    return sweep_of(content)


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
                f"{path} contains '{echoed(value)}', a {type(value).__name__}; a sweep file may have texts, numbers, "
                "true, false, and lists of them.",
                "file",
            )
        if seen + len(waiting) > _MOST_VALUES:
            raise BadInput(
                f"{path} has more than {_MOST_VALUES:,} values, counting each alias. Shorten it.", "file"
            )


def sweep_of(content: Mapping[str, Any]) -> SweepRequest:
    """Return the runs that the content of a sweep file asks for, each once. Raises BadInput if a setting is missing or
    invalid, or there are more than :data:`MOST_RUNS` runs, UnknownName if a key, method, model, task or knob does
    not exist."""
    for key in content:
        if key not in _SWEEP_KEYS:
            raise UnknownName("setting of a sweep", str(key), _SWEEP_KEYS, str(key))
    for key in ("model", "task", "methods"):
        if not content.get(key):
            raise BadInput(f"The sweep file has no {key}. Add it.", key)
    slugs = _listed(content, "methods", str)
    methods = [get_method(slug) for slug in dict.fromkeys(slugs)]
    seeds = _listed(content, "seeds", int) if "seeds" in content else [0]
    if ("grid" in content) and ("random" in content):
        raise BadInput("The sweep file has both grid and random. Remove one.", "grid")
    key = "random" if "random" in content else "grid"
    varied = content.get(key) or {}
    if not isinstance(varied, dict):
        raise BadInput(f"'{key}' needs settings with values, such as r: [4, 8].", key)
    known = [RATE, *dict.fromkeys(knob.name for method in methods for knob in method.knobs)]
    for name in varied:
        if name not in known and name != "runs":
            raise UnknownName("knob of these methods", str(name), known, str(name))
    settings = _drawn if key == "random" else _combined
    requests = [
        _request(content, method, values, seed)
        for seed in dict.fromkeys(seeds)
        for method in methods
        for values in settings(varied, method)
    ]
    if len(requests) > MOST_RUNS:
        raise BadInput(
            f"A sweep can have at most {MOST_RUNS:,} runs, not {len(requests):,}. Remove some.", key
        )
    # Two settings that are equal once defaults are filled in are one run.
    specs = {json.dumps(spec.to_dict(), sort_keys=True): spec for spec in (r.complete() for r in requests)}
    found = tuple(specs.values())
    early = None if content.get("stop") is None else parse(content["stop"], found[0].steps)
    return SweepRequest(found, early)


def _request(
    content: Mapping[str, Any], method: MethodSpec, values: Mapping[str, Any], seed: int
) -> RunRequest:
    model, task = entry_of(str(content["model"])), get_task(str(content["task"]))
    rows = content.get("eval_rows")
    return RunRequest(
        model=str(content["model"]),
        method=method.slug,
        task=str(content["task"]),
        values={name: value for name, value in values.items() if name != RATE},
        steps=content.get("steps", STEPS),
        batch=content.get("batch"),
        seed=seed,
        learning_rate=values.get(RATE),
        eval_rows=usual_eval_rows(task.kind, model.kind, compared=True) if rows is None else rows,
    )


def _listed(content: Mapping[str, Any], key: str, kind: type) -> list[Any]:
    found = content[key]
    if not isinstance(found, list) or not found or any(type(each) is not kind for each in found):
        what = "names" if kind is str else "whole numbers"
        raise BadInput(
            f"'{key}' needs a list of {what}, such as {'[lora]' if kind is str else '[0, 1]'}.", key
        )
    return found


def _has(method: MethodSpec, name: str) -> bool:
    return name == RATE or any(knob.name == name for knob in method.knobs)


def read_value(method: MethodSpec, name: str, value: Any) -> Any:
    """Return a value as the method takes it, from a number, a text or a list. Raises BadInput if it takes none such."""
    if name == RATE:
        try:
            return float(value)
        except (TypeError, ValueError):
            raise BadInput(f"A learning rate must be a number, not '{echoed(value)}'.", RATE) from None
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return method.knob(name).parse(text)


def _combined(varied: Mapping[str, Any], method: MethodSpec) -> Iterator[dict[str, Any]]:
    own = {name: values for name, values in varied.items() if _has(method, name)}
    if "runs" in varied:
        raise BadInput(
            "'runs' belongs to random, because a grid runs every combination. Remove 'runs'.", "grid"
        )
    for name, values in own.items():
        if not isinstance(values, list) or not values:
            raise BadInput(f"'{echoed(name)}' needs a list of values in a grid, such as [4, 8].", name)
    for values in itertools.product(*own.values()):
        yield {name: read_value(method, name, value) for name, value in zip(own, values, strict=True)}


def _drawn(varied: Mapping[str, Any], method: MethodSpec) -> Iterator[dict[str, Any]]:
    runs = varied.get("runs")
    if type(runs) is not int or not 1 <= runs <= MOST_RUNS:
        raise BadInput(f"'random' needs the number of 'runs', from 1 to {MOST_RUNS:,}.", "random")
    chance = random.Random(method.slug)
    own = {name: values for name, values in varied.items() if name != "runs" and _has(method, name)}
    for _ in range(runs):
        yield {name: read_value(method, name, _draw(name, values, chance)) for name, values in own.items()}


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
        f"'{echoed(name)}' needs a list, or min and max with min below max (above 0 if log is true).", name
    )


FILE_NAME = "sweep.yaml"
COMMAND = f"python -m peft_lab sweep {FILE_NAME}"
