"""Make a recipe: every setting with its value, its range, its sources, and what to try next.

Rules are listed in order, those measured nearest to a job first. The first rule's value is taken if a second
source allows it, else the value that most sources allow. The range is all that any source allows, so where they
disagree it covers both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from peft_lab.advise.recipes.rules import (
    ADAMW,
    ALL_LINEAR,
    CONTENT,
    OBJECTIVES,
    OF_ENCODERS,
    RATE,
    Job,
    Rule,
    Said,
    all_rules,
    allowing,
    choose,
    spanned,
)
from peft_lab.core import references as src
from peft_lab.core.content import read_entry
from peft_lab.core.units import Source, several, told_rows, written_figure
from peft_lab.methods import get_method
from peft_lab.methods.base import STEPS
from peft_lab.methods.shared import targets
from peft_lab.models.catalogue import get_model
from peft_lab.models.shapes import KIND_NAMES

#: Kinds of value: chosen by the lab, or given by the user.
LAB, TOLD = "lab", "told"
_KNOBS = (
    "r", "use_rslora", "lora_alpha", "target_modules", "lora_dropout", "loraplus_lr_ratio", "num_virtual_tokens",
    "bottleneck",
)  # fmt: skip
_OPTIONAL = ("use_rslora", "loraplus_lr_ratio")
_LEAST_STEPS = 10  # per epoch: with fewer, hardly anything is learned from few rows
_USUAL = "We know no source for such a job; this is a usual value."
_OUTSIDE = "The plan chose this value for the available memory or data. It is outside the sources' range."
#: Objectives to look at if no source covers one, nearest first.
_NEAR = {
    "style": ("sft",), "extraction": ("classification", "sft"), "embedding": ("classification", "sft"),
    "cpt": ("sft", "classification"), "preference": ("sft",), "rl": ("preference", "sft"),
    "sft": (), "classification": ("sft",),
}  # fmt: skip
_LIKE = ("llama-3.2-3b", "roberta-large", "t5-base")  # models that sources cover, as stand-ins
#: What to try next, by setting.
_NEXT = read_entry(CONTENT / "next.yaml", dict[str, str])
#: Rules with what they say for a job.
Statements = list[tuple[Rule, Said]]
_LOW = ("preference", "rl")  # lower rates than for answers, in every method with both


@dataclass(frozen=True)
class SourceStatement:
    """What one source says."""

    rule: str
    source: str
    citation: str
    measured: str
    value: Any
    band: tuple[float, float] | None

    @property
    def text(self) -> str:
        """Return the citation and the value."""
        return f"{self.citation}: {written_figure(self.value)}"


@dataclass(frozen=True)
class RecipeSetting:
    """One setting of a recipe.

    Attributes:
        band: the range that at least one source allows; ``None`` if the value is no number.
        said: every source that gives a value. agreeing: the references of those that allow this value.
        kind: of its source: ``cited``, ``simulated``, ``counted``; ``lab`` for ours, ``told`` for the user's.
        why: the reason if fewer than two sources allow the value, or if it comes from no source.
        next: what to try if it does not work.
    """

    name: str
    value: Any
    band: tuple[float, float] | None
    said: tuple[SourceStatement, ...]
    agreeing: tuple[str, ...]
    kind: str
    why: str
    next: str

    @property
    def source(self) -> str:
        """Return all citations with their values, or the reason if there are none."""
        return "; ".join(evidence.text for evidence in self.said) or self.why

    def as_dict(self) -> dict[str, Any]:
        """Return the setting with its band, its reasons and its citations, as JSON can hold them."""
        return {
            "value": list(self.value) if isinstance(self.value, tuple) else self.value,
            "band": None if self.band is None else list(self.band),
            "source": self.source,
            "kind": self.kind,
            "why": self.why,
            "next": self.next,
            "sources": [asdict(evidence) for evidence in self.said],
        }


@dataclass(frozen=True)
class Recipe:
    """All settings of a job, by name."""

    job: Job
    settings: Mapping[str, RecipeSetting]

    def __getitem__(self, name: str) -> RecipeSetting:
        return self.settings[name]

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Return every setting by its name, as JSON can hold them."""
        return {name: setting.as_dict() for name, setting in self.settings.items()}


def recipe(job: Job) -> Recipe:
    """Return the recipe for a job. Fixed knobs and a fixed batch are kept; the sources decide the rest."""
    settings: dict[str, RecipeSetting] = {}
    for name in _KNOBS:
        if name not in job.values:
            continue
        setting = _knob(job, name)
        if setting is None:
            continue
        settings[name] = setting
        job = replace(job, values={**job.values, name: setting.value})
    answers = {"group": _stated(job, "group")} if job.objective == "rl" else {}
    job = replace(job, group=answers["group"].value if answers else 1)
    batch = _batch(job)
    job = replace(job, batch=batch.value)
    epochs = _stated(job, "epochs")
    steps = math.ceil(epochs.value * job.steps_per_epoch)
    packing = _stated(job, "packing")
    fewer = "; if rows are packed, there are fewer steps" if packing.value is True else ""
    rows = told_rows(job.rows, job.group)
    ordered = {
        RATE: _rate(job, steps),
        "schedule": _stated(job, "schedule"),
        "warmup": _stated(job, "warmup"),
        "batch": batch,
        **answers,
        "epochs": epochs,
        "steps": _derived(
            "steps",
            steps,
            f"{rows}, {several(written_figure(epochs.value), 'time')}, {batch.value:,} per step{fewer}",
        ),
        **settings,
        "dtype": _step(job, "dtype", job.dtype),
        "optimizer": _stated(job, "optimizer"),
        "checkpointing": _step(job, "checkpointing", job.checkpointing),
        "packing": packing,
    }
    return Recipe(job, ordered)


def evidence(job: Job, field: str, optimizer: str = ADAMW) -> Statements:
    """Return every rule that covers a field for a job, and what it says; of rates, this optimizer's."""
    rules = (
        rule for rule in all_rules() if rule.field == field and (field != RATE or rule.optimizer == optimizer)
    )
    return [(rule, said) for rule in rules if (said := rule.says(job)) is not None]


def _setting(
    name: str,
    value: Any,
    statements: Statements,
    kind: str = str(Source.CITED),
    why: str = "",
    compared: Any = None,
) -> RecipeSetting:
    """Return a setting with all statements about it. ``compared``: the value in the sources' terms, if they differ."""
    said = tuple(
        SourceStatement(rule.id, rule.source, rule.citation, rule.measured, one.value, one.band)
        for rule, one in statements
    )
    agreeing = allowing(statements, value if compared is None else compared)
    why = why or _few(statements, agreeing)
    return RecipeSetting(name, value, spanned(statements), said, agreeing, kind, why, _NEXT[name])


def _few(statements: Statements, agreeing: tuple[str, ...]) -> str:
    """Return why fewer than two sources support a value."""
    if len(agreeing) >= 2:
        return ""
    if not agreeing:
        return "We know no source that uses this value."
    others = tuple(dict.fromkeys(rule.source for rule, _ in statements if rule.source not in agreeing))
    if not others:
        return "We know only this source for such a job."
    return "The sources disagree: no two of them allow the same value. Try the values of the other sources as well."


def _stated(job: Job, name: str) -> RecipeSetting:
    statements = evidence(job, name)
    if not statements:
        return _setting(name, {"warmup": 0.06, "epochs": 3, "batch": 16}[name], [], LAB, _USUAL)
    return _setting(name, choose(statements), statements)


def _knob(job: Job, name: str) -> RecipeSetting | None:
    statements = evidence(job, name)
    if not statements and name in _OPTIONAL:
        return None
    if not statements:
        return _setting(name, job.values[name], [], LAB, _OUTSIDE if name in job.fixed else _USUAL)
    if name not in job.fixed:
        value = choose(statements)
        shown = (value,) if name == "target_modules" else value
        return _setting(name, shown, statements, compared=value)
    value = job.values[name]
    compared = _targets(job, value) if name == "target_modules" else value
    allowed = allowing(statements, compared)
    kind, why = (str(Source.CITED), "") if allowed else (LAB, _OUTSIDE)
    return _setting(name, value, statements, kind, why, compared=compared)


def _step(job: Job, name: str, value: Any) -> RecipeSetting:
    """Return precision or checkpointing, from the simulated step if there is one."""
    if value is None:
        return _stated(job, name)
    statements = evidence(job, name)
    why = "As in the simulated step of this plan."
    if value == "float16":
        why = "This device does not compute in bfloat16, and float16 needs loss scaling."
    elif name == "dtype" and job.method in ("full", "bitfit"):
        why += (
            " Weights trained in this format lose updates that are much smaller than the weights. Float32 copies keep "
            "such updates and take four more bytes per parameter."
        )
    return _setting(name, value, statements, str(Source.SIMULATED), why)


def _targets(job: Job, names: tuple[str, ...]) -> str:
    """Return a list of targets in the sources' terms."""
    if tuple(names) == (ALL_LINEAR,) or set(names) >= set(job.shape.target_names):
        return ALL_LINEAR
    if job.shape.mixtures and tuple(names) == targets.every_map(job.shape)["target_modules"]:
        return ALL_LINEAR
    usual = get_method("lora").defaults(job.shape)["target_modules"]
    return "query and value" if tuple(names) == tuple(usual) else ", ".join(names)


def _batch(job: Job) -> RecipeSetting:
    if job.batch is not None:
        statements = evidence(job, "batch")
        agree = bool(allowing(statements, job.batch))
        why = "Your setting." if agree else "Your setting; the sources used other batch sizes."
        return _setting("batch", job.batch, statements, TOLD, why)
    setting = _stated(job, "batch")
    most = max(job.sequences // (_LEAST_STEPS * job.group), 1) * job.group  # groups stay whole
    if setting.value > most:
        steps = several(math.ceil(job.sequences / most), "step")
        why = f"Smaller than in the sources, so that {told_rows(job.rows, job.group)} give {steps}."
        setting = _setting("batch", most, evidence(job, "batch"), LAB, why)
    if setting.value < job.devices:
        why = f"One row on each of {job.devices:,} devices."
        setting = _setting("batch", job.devices, evidence(job, "batch"), LAB, why)
    return setting


def _derived(name: str, value: Any, why: str) -> RecipeSetting:
    return RecipeSetting(
        name, value, None, (), (), str(Source.COUNTED), f"{why[:1].upper()}{why[1:]}.", _NEXT[name]
    )


def rate_for(job: Job, optimizer: str) -> RecipeSetting | None:
    """Return the rate that sources used for a job with an optimizer; ``None`` if none gives one."""
    statements = evidence(job, RATE, optimizer)
    return _setting(RATE, choose(statements), statements) if statements else None


def _rate(job: Job, steps: int) -> RecipeSetting:
    """Return the sources' rate, or the lab's own for a live model and a job as short as the lab's runs."""
    statements = evidence(job, RATE)
    if job.live and steps <= STEPS:
        value = get_method(job.method).learning_rate(job.kind, job.values)
        why = f"Chosen so that {STEPS} steps are enough on this small model."
        why += " Published rates are for thousands of steps."
        return replace(_setting(RATE, value, statements, LAB, why), band=None)
    if statements:
        return _setting(RATE, choose(statements), statements)
    statements, near = _nearest(job)
    value = min(said.value for _, said in statements) if job.objective in _LOW else choose(statements)
    title, objective = get_method(job.method).title, OBJECTIVES[job.objective]
    lower = (
        " The lowest of these rates is used, because such training needs lower rates than training on answers."
        if job.objective in _LOW
        else ""
    )
    own, other = f"{KIND_NAMES[job.kind]}s", f"{KIND_NAMES[near.kind]}s"
    why = (
        f"We know no source for the rate of {title} in {objective} on {own} of this size. The rate shown is for "
        f"{OBJECTIVES[near.objective]} on {other}.{lower}"
    )
    return _setting(RATE, value, statements, LAB, why)


def _nearest(job: Job) -> tuple[Statements, Job]:
    """Return the evidence for the nearest job that has any, and that job."""
    objectives = (job.objective, *_NEAR[job.objective], *OBJECTIVES)
    shapes = (job.shape, *(get_model(name).shape for name in _LIKE))
    for shape in sorted(shapes, key=lambda one: one.kind != job.kind):
        for objective in objectives:
            if shape.kind == "encoder" and objective not in OF_ENCODERS:
                continue
            near = replace(job, shape=shape, objective=objective)
            statements = evidence(near, RATE)
            if statements:
                return statements, near
    raise LookupError(f"no source gives any rate for {job.method} ({src.ALGEBRA})")
