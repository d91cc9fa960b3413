"""Comparisons as studies: methods by seeds on one model and task, as runs that differ in nothing else; their stored
plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

from peft_lab.core import content
from peft_lab.core.errors import BadInput, UnreadableFile
from peft_lab.methods import all_methods, get_method
from peft_lab.methods.base import STEPS, MethodSpec
from peft_lab.runs.spec import RunRequest, RunSpec, entry_of
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status
from peft_lab.studies.store import Study, command_line, identity, runs_of, status_of
from peft_lab.training.tasks import own

SEEDS = (0, 1, 2)
MOST_SEEDS = 20


@dataclass(frozen=True)
class ComparisonRequest:
    """The learner's request."""

    model: str
    task: str
    methods: tuple[str, ...] = ()  # slugs in the order of the rows; empty for all methods
    steps: int = STEPS
    # batch and eval_rows: as in :class:`~peft_lab.runs.spec.RunRequest`; ``None`` for the task's default
    batch: int | None = None
    seeds: tuple[int, ...] = SEEDS
    eval_rows: int | None = None
    # knobs by method; omitted ones have their defaults
    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One run of the comparison: a method with a seed."""

    method: str
    seed: int
    spec: RunSpec = field(compare=False)


@dataclass(frozen=True)
class ComparisonPlan:
    """A comparison that can be carried out."""

    request: ComparisonRequest  # as given, with the defaults of the settings common to all methods filled in
    # the runs in the order in which they are made: every method with the first seed, then with the second, so that an
    # unfinished comparison already compares
    cells: tuple[Cell, ...]
    refused: Mapping[str, str]  # why a method has no runs, by slug
    totals: Mapping[str, int]  # parameters of the adapted model by slug, without the task head

    @property
    def id(self) -> str:
        """Return an id that is equal for equal plans, so that the same request finds the comparison again."""
        cells = [cell.spec.to_dict() for cell in self.cells]
        return identity(self.request.model, self.request.task, [cells, dict(self.refused)])

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable dictionary; :meth:`from_dict` reads it."""
        return {
            "wish": asdict(self.request),
            "cells": [{"method": c.method, "seed": c.seed, "spec": c.spec.to_dict()} for c in self.cells],
            "refused": dict(self.refused),
            "totals": dict(self.totals),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ComparisonPlan:
        """Invert :meth:`to_dict`, also after JSON. Raises BadInput, KeyError or TypeError for anything else."""
        request = ComparisonRequest(**content.read_typed(ComparisonRequest, data["wish"], "A comparison"))
        cells = (Cell(c["method"], c["seed"], RunSpec.from_dict(c["spec"])) for c in data["cells"])
        return cls(request, tuple(cells), dict(data["refused"]), dict(data["totals"]))


def make_plan(request: ComparisonRequest) -> ComparisonPlan:
    """Return the runs of a comparison, each checked as the run store would check it. A method that does not apply to
    the model is no error; ``refused`` gives the reason. Raises BadInput if a name, number or knob is invalid, or no
    method applies, AssetError if weights or data must be downloaded first."""
    if request.task == own.NAME:
        raise BadInput(
            "A comparison cannot use your own data. Choose a task that comes with the app.", "task"
        )
    if request.eval_rows == 0:
        raise BadInput(
            "A comparison needs held-out rows to score the methods. Give at least one.", "eval_rows"
        )
    seeds = tuple(dict.fromkeys(request.seeds))
    if not 1 <= len(seeds) <= MOST_SEEDS:
        raise BadInput(f"A comparison takes 1 to {MOST_SEEDS} seeds, not {len(seeds)}.", "seeds")
    specs = [get_method(slug) for slug in dict.fromkeys(request.methods or all_methods())]
    entry = entry_of(request.model)
    for slug in request.values.keys() - {spec.slug for spec in specs}:
        raise BadInput(
            f"Settings are given for '{slug}', which is not compared. Add the method or remove its settings.",
            "values",
        )
    errors = {
        spec.slug: [one.message for one in spec.problems(entry.shape, {}) if one.level == "error"]
        for spec in specs
    }
    refused = {slug: found[0] for slug, found in errors.items() if found}
    kept = [spec for spec in specs if spec.slug not in refused]
    if not kept:
        raise BadInput(
            f"None of these methods applies to {entry.title}: {next(iter(refused.values()))}", "methods"
        )
    first = [_spec(request, spec, seeds[0]).complete() for spec in kept]
    # One length for all: a method that takes up positions must not see shorter rows than the others do.
    length = min(spec.max_length for spec in first)
    first = [replace(spec, max_length=length) for spec in first]
    cells = tuple(
        Cell(spec.method, seed, replace(spec, seed=seed).complete()) for seed in seeds for spec in first
    )
    complete = replace(
        request,
        methods=tuple(spec.slug for spec in specs),
        seeds=seeds,
        batch=first[0].batch,
        eval_rows=first[0].eval_rows,
    )
    totals = {
        spec.slug: entry.shape.total + spec.formula(entry.shape, run.values).added
        for spec, run in zip(kept, first, strict=True)
    }
    return ComparisonPlan(complete, cells, refused, totals)


def _spec(request: ComparisonRequest, spec: MethodSpec, seed: int) -> RunRequest:
    return RunRequest(
        model=request.model,
        method=spec.slug,
        task=request.task,
        values=dict(request.values.get(spec.slug, {})),
        steps=request.steps,
        batch=request.batch,
        seed=seed,
        eval_rows=request.eval_rows,
        compared=True,
    )


# ----------------------------------------
# A comparison as the command that makes it.


def command_of(request: ComparisonRequest) -> str:
    """Return the command line that repeats or continues a comparison. Knobs apply to every method that has them."""
    names = ("model", "task", "methods", "steps", "batch", "seeds", "eval_rows")
    options = {name.replace("_", "-"): getattr(request, name) for name in names}
    given = {name: value for values in request.values.values() for name, value in values.items()}
    return command_line("compare", options, given)


@dataclass(frozen=True)
class Standing:
    """Progress of a comparison."""

    runs: dict[Cell, Run]  # by cell; cells without a run are left out
    done: tuple[Cell, ...]
    failed: tuple[Cell, ...]  # pending cells whose representative run failed
    pending: tuple[Cell, ...]  # cells without a finished run
    running: bool  # whether a living process carries it out

    @property
    def status(self) -> str:
        """Return ``running``, ``done``, ``incomplete`` (all runs that are not done failed) or ``interrupted``."""
        if self.running:
            return "running"
        if not self.pending:
            return "done"
        return "incomplete" if len(self.failed) == len(self.pending) else "interrupted"


class Comparison(Study):
    """One comparison's folder."""

    NOUN: ClassVar[str] = "comparison"
    FOLDER: ClassVar[str] = "comparisons"
    FILE: ClassVar[str] = "plan.json"

    @property
    def plan(self) -> ComparisonPlan:
        """Return the plan. Raises RunError if the file is missing or cannot be read."""
        try:
            return ComparisonPlan.from_dict(self.content())
        except (BadInput, UnreadableFile, ValueError, KeyError, TypeError) as error:
            raise self.unreadable(error) from error

    @property
    def specs(self) -> Sequence[RunSpec]:
        return [cell.spec for cell in self.plan.cells]

    def standing(self, plan: ComparisonPlan | None = None) -> Standing:
        """Return its progress, read from the run store now."""
        cells = (plan or self.plan).cells
        found = runs_of([cell.spec for cell in cells])
        runs = {cell: run for cell, run in zip(cells, found, strict=True) if run}
        status = {cell: status_of(run) for cell, run in runs.items()}
        done = tuple(cell for cell in cells if status.get(cell) is Status.DONE)
        failed = tuple(cell for cell in cells if status.get(cell) is Status.FAILED)
        pending = tuple(cell for cell in cells if cell not in done)
        return Standing(runs, done, failed, pending, self.running)


get, delete, comparisons, root = Comparison.get, Comparison.delete, Comparison.stored, Comparison.root


def keep(plan: ComparisonPlan) -> Comparison:
    """Return the comparison of a plan, created if there is none. Raises RunError if the disk cannot be written."""
    return Comparison.create(plan.id, plan.to_dict())
