"""Define the job that a recipe is for, and rules: what one source says of one setting, and for which jobs.

The rules are entries of ``peft_lab/advise/content/rules/*.yaml``. ``when`` names the jobs that a source speaks of, in
the words of :class:`When`; the value is written there, or computed by a function of :data:`CALCULATIONS`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NewType, get_args

from peft_lab.core.content import Citation, Converter, by_name, read_entries
from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.engine import published
from peft_lab.methods import all_methods, get_method
from peft_lab.models.catalogue import catalogue
from peft_lab.models.shapes import ModelKind, ModelShape

#: What a model can be trained for, by key.
OBJECTIVES: Mapping[str, str] = {
    "sft": "instruction following",
    "cpt": "continued pretraining",
    "classification": "classification",
    "extraction": "extraction",
    "embedding": "embedding",
    "preference": "preference training",
    "rl": "reinforcement learning",
    "style": "style",
}
#: For a model that writes, all these are one loss on answers of some length: sources on one serve for all.
ANSWERS = ("sft", "extraction", "style", "classification")
#: Objectives of encoders, which write no text.
OF_ENCODERS = ("classification", "extraction", "embedding", "cpt")
BILLION = 1_000_000_000
_USUAL_BATCH = 16


@dataclass(frozen=True)
class Job:
    """A method on a model for an objective.

    Attributes:
        values: all knobs of the method.
        rows: of training data. row_tokens: average tokens of a row, answer included.
        group: answers that are sampled for a row's prompt and compared; 1 where a row has its own.
        batch: rows of one optimizer step over all devices, if fixed; ``None`` asks for advice.
        dtype, checkpointing: of a simulated step, if there is one.
        fixed: knobs that are fixed already. They are kept, with what the sources say beside them.
    """

    method: str
    shape: ModelShape
    objective: str
    rows: int
    row_tokens: int
    devices: int = 1
    batch: int | None = None
    dtype: str | None = None
    checkpointing: bool | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    fixed: frozenset[str] = frozenset()
    group: int = 1

    @property
    def kind(self) -> ModelKind:
        """Return the kind of the model."""
        return self.shape.kind

    @property
    def parameters(self) -> int:
        """Return the parameters of the base model."""
        return self.shape.total

    @property
    def tokens(self) -> int:
        """Return the tokens of the training data, each counted once."""
        return self.rows * self.row_tokens

    @property
    def low_rank(self) -> bool:
        """Return whether the method trains LoRA's matrices."""
        return get_method(self.method).low_rank

    @property
    def live(self) -> bool:
        """Return whether the model is one of the small ones that this lab trains."""
        entry = catalogue().get(self.shape.name)
        return entry is not None and entry.live

    @property
    def sequences(self) -> int:
        """Return the sequences trained on in an epoch: rows, or all answers to the rows' prompts."""
        return self.rows * self.group

    @property
    def steps_per_epoch(self) -> int:
        """Return the optimizer steps of one epoch."""
        return math.ceil(self.sequences / (self.batch or _USUAL_BATCH))

    def value(self, knob: str) -> Any:
        """Return a knob's value; ``None`` if the method has no such knob."""
        return self.values.get(knob)

    def answers(self) -> bool:
        """Return whether a model that writes is trained on answers to prompts."""
        return self.kind != "encoder" and self.objective in ANSWERS


def job(
    method: str,
    shape: ModelShape,
    objective: str,
    rows: int = 10_000,
    row_tokens: int = 512,
    *,
    devices: int = 1,
    batch: int | None = None,
    dtype: str | None = None,
    checkpointing: bool | None = None,
    values: Mapping[str, Any] | None = None,
) -> Job:
    """Return a checked job. ``values``: fixed knobs; the others get the method's defaults. Raises UnknownName if the
    method or objective is unknown; BadInput if the model refuses it, or a number is below 1."""
    spec = get_method(method)
    if objective not in OBJECTIVES:
        raise UnknownName("objective", objective, OBJECTIVES, "objective")
    if shape.kind == "encoder" and objective not in OF_ENCODERS:
        raise BadInput(
            f"{shape.title} is an encoder and writes no text, so it cannot be trained for {OBJECTIVES[objective]}.",
            "objective",
        )
    if shape.kind in spec.refuses:
        raise BadInput(spec.refuses[shape.kind], "method")
    for name, number in (
        ("rows", rows),
        ("row_tokens", row_tokens),
        ("devices", devices),
        ("batch", batch or 1),
    ):
        if number < 1:
            raise BadInput(f"{name} must be a whole number from 1; {number} is not.", name)
    complete = spec.complete(shape, values or {})
    settled = frozenset(values or ())
    return Job(
        method, shape, objective, rows, row_tokens, devices, batch, dtype, checkpointing, complete, settled
    )


CONTENT = Path(__file__).parents[1] / "content"
FILES = ("learning_rates", "runs", "sizes")
#: Range of a single figure: half to twice that figure. Sweeps move in steps of two to three, and no source looked
#: between two steps. (LoRA's best rate moved by less than two between rank 4 and 512.)
GRAIN = 2.0
#: Optimizers that rates were measured with. Each rate is for its own only: each scales gradients differently.
#: AdamW stands for Adam too, which differs in decay, and for 8-bit and paged moments, which replace 32-bit ones without
#: a change of hyperparameters (8-bit Optimizers, abstract).
ADAMW, ADAFACTOR, PAGED = "AdamW", "Adafactor", "paged AdamW"
RATE = "learning_rate"
ALL_LINEAR = "all-linear"
#: Reasons why this lab's small models cannot test a rule, by their short names in the files.
UNTESTABLE = {
    "large model": "needs a model of billions of parameters",
    "other task": "this lab trains no such task",
}
#: Data as little as LIMA's: at most 2,000 rows (it trained on a thousand), and no more tokens than those could have in
#: rows of 2,048, the positions of the first LLaMA.
FEW_ROWS, FEW_TOKENS = 2_000, 2_000 * 2_048

#: Names of methods, kinds and objectives, or of :data:`GROUPS` of them.
Words = NewType("Words", tuple[str, ...])
#: A number, a word or a truth value.
Figure = NewType("Figure", object)

#: Words for jobs that are no single method, kind or objective.
GROUPS: Mapping[str, Callable[[Job], bool]] = {
    "low-rank": lambda job: job.low_rank,
    # Keys and values of every layer are trained directly: P-Tuning v2, and PEFT's prefixes.
    "deep-prompts": lambda job: (
        job.value("version") == "v2"
        if job.method == "ptuning"
        else job.method == "prefix" and not job.value("prefix_projection")
    ),
    "answers": Job.answers,
}


@dataclass(frozen=True)
class Said:
    """What a source says for one job: the value that it used, and the range if it gives one."""

    value: Any
    low: float | None = None
    high: float | None = None

    @property
    def band(self) -> tuple[float, float] | None:
        """Return the range that it allows; ``None`` if the value is no number."""
        if isinstance(self.value, bool | str) or not isinstance(self.value, int | float):
            return None
        least = 1 if isinstance(self.value, int) else 0  # there is no half epoch and no half row
        low = max(self.value / GRAIN, least) if self.low is None else self.low
        high = self.value * GRAIN if self.high is None else self.high
        return float(f"{low:.6g}"), float(f"{high:.6g}")

    def allows(self, value: Any) -> bool:
        """Return whether a value agrees with it."""
        band = self.band
        if band is None or isinstance(value, bool | str) or not isinstance(value, int | float):
            return bool(value == self.value)
        return band[0] * (1 - 1e-9) <= value <= band[1] * (1 + 1e-9)


@dataclass(frozen=True)
class NumberRange:
    """A range of numbers; ``least`` and ``most`` belong to it, ``below`` and ``above`` do not."""

    least: float | int | None = None
    most: float | int | None = None
    below: float | int | None = None
    above: float | int | None = None

    def hold(self, number: float) -> bool:
        """Return whether a number lies in the range."""
        return (
            (self.least is None or number >= self.least)
            and (self.most is None or number <= self.most)
            and (self.below is None or number < self.below)
            and (self.above is None or number > self.above)
        )


@dataclass(frozen=True)
class When:
    """The jobs that a source speaks of. All conditions that are given have to hold.

    Attributes:
        method, kind, objective: one of these names, or a group of :data:`GROUPS`. other_than: none of these.
        knobs: values of the method's settings; ``false`` also where there is no such setting.
        billions: parameters of the model. rows, row_tokens: of the data. few_rows: as few as LIMA's.
    """

    method: Words = Words(())
    kind: Words = Words(())
    objective: Words = Words(())
    other_than: Words = Words(())
    knobs: Mapping[str, bool | str | NumberRange] | None = None
    billions: NumberRange | None = None
    rows: NumberRange | None = None
    row_tokens: NumberRange | None = None
    few_rows: bool | None = None

    def holds(self, job: Job) -> bool:
        """Return whether a job is one of these."""
        return (
            (not self.method or _is_any(job, self.method))
            and (not self.kind or job.kind in self.kind)
            and (not self.objective or _is_any(job, self.objective))
            and not (self.other_than and _is_any(job, self.other_than))
            and (not self.knobs or all(_has(job, *knob) for knob in self.knobs.items()))
            and (self.billions is None or self.billions.hold(job.parameters / BILLION))
            and (self.rows is None or self.rows.hold(job.rows))
            and (self.row_tokens is None or self.row_tokens.hold(job.row_tokens))
            and (
                self.few_rows is None or self.few_rows == (job.rows <= FEW_ROWS and job.tokens <= FEW_TOKENS)
            )
        )


def _is_any(job: Job, words: Words) -> bool:
    for word in words:
        group = GROUPS.get(word)
        if group(job) if group else word in (job.method, job.objective, job.kind):
            return True
    return False


def _has(job: Job, knob: str, wanted: bool | str | NumberRange) -> bool:
    value = job.value(knob)
    if isinstance(wanted, NumberRange):
        return value is not None and wanted.hold(value)
    return bool(value) == wanted if isinstance(wanted, bool) else value == wanted


_ALWAYS = When()
Calculation = Callable[[Job], Said | None]


@dataclass(frozen=True)
class RuleCase:
    """A value for some of the jobs of a rule."""

    value: Figure
    low: Figure | None = None
    high: Figure | None = None
    when: When = _ALWAYS


@dataclass(frozen=True)
class Rule:
    """One source on one setting.

    Attributes:
        field: the setting.
        source: the reference. place: where in it. measured: on which models and data. quote: its words.
        when: the jobs that it speaks of.
        value, low, high: what it says for all of them; or cases: the first that fits a job counts; or best_row: the
            rate of the best published row of this kind; or calculate: a function of :data:`CALCULATIONS`.
        optimizer: with which a learning rate was measured; without meaning for other settings.
        untestable: why this lab's small models cannot test it, or a key of :data:`UNTESTABLE`; empty if a sweep can.
    """

    id: str
    field: str
    source: Citation
    measured: str
    quote: str
    place: str = ""
    when: When = _ALWAYS
    value: Figure | None = None
    low: Figure | None = None
    high: Figure | None = None
    cases: tuple[RuleCase, ...] = ()
    best_row: str = ""
    calculate: Calculation | None = None
    optimizer: str = ADAMW
    untestable: str = ""

    def __post_init__(self) -> None:
        ways = (self.value is not None, bool(self.cases), bool(self.best_row), self.calculate is not None)
        if sum(ways) != 1:
            raise ValueError("a rule needs one of 'value', 'cases', 'best row' and 'calculate'")
        if self.value is not None:
            object.__setattr__(self, "cases", (RuleCase(self.value, self.low, self.high),))
        object.__setattr__(self, "untestable", UNTESTABLE.get(self.untestable, self.untestable))

    @property
    def citation(self) -> str:
        """Return the reference and the place in it."""
        return f"{self.source}, {self.place}" if self.place else self.source

    def says(self, job: Job) -> Said | None:
        """Return what the source says for a job; ``None`` if it does not speak of such jobs."""
        if not self.when.holds(job):
            return None
        if self.best_row:
            rows = [row for name, row in published.rows().items() if name.startswith(f"{self.best_row}--")]
            return Said(max(rows, key=lambda row: row.accuracy).learning_rate) if rows else None
        if self.calculate is not None:
            return self.calculate(job)
        fits = (case for case in self.cases if case.when.holds(job))
        return next((Said(case.value, case.low, case.high) for case in fits), None)  # type: ignore[arg-type]


@cache
def all_rules() -> tuple[Rule, ...]:
    """Return every rule, those measured nearest to a job first. Order matters: the first one wins a tie. Raises
    ContentError if a file has a mistake."""
    converters: dict[Any, Converter] = {Words: _words, Figure: _figure, Calculation: by_name(CALCULATIONS)}
    return tuple(
        rule for name in FILES for rule in read_entries(CONTENT / "rules" / f"{name}.yaml", Rule, converters)
    )


def _words(value: Any) -> Words:
    words = Words(value if isinstance(value, tuple) else (value,))
    known = {*all_methods(), *get_args(ModelKind), *OBJECTIVES, *GROUPS}
    if unknown := [word for word in words if word not in known]:
        raise ValueError(f"there is no method, kind, objective or group '{unknown[0]}'")
    return words


def _figure(value: Any) -> Any:
    """Return a value as YAML has it, but with ``2e-4`` as a number."""
    return float(value) if isinstance(value, str) and re.fullmatch(r"\d[\d.]*e-?\d+", value) else value


def choose(evidence: Iterable[tuple[Rule, Said]]) -> Any:
    """Return the first rule's value if a second reference allows it, else what most references allow."""
    evidence = list(evidence)
    first = evidence[0][1].value
    if len(allowing(evidence, first)) > 1:
        return first
    return max((said.value for _, said in evidence), key=lambda value: len(allowing(evidence, value)))


def allowing(evidence: Iterable[tuple[Rule, Said]], value: Any) -> tuple[str, ...]:
    """Return the references that allow a value."""
    return tuple(dict.fromkeys(rule.source for rule, said in evidence if said.allows(value)))


def spanned(evidence: Iterable[tuple[Rule, Said]]) -> tuple[float, float] | None:
    """Return the range of all that any rule allows; ``None`` if no value is a number."""
    bands = [said.band for _, said in evidence if said.band is not None]
    return (min(low for low, _ in bands), max(high for _, high in bands)) if bands else None


# ----------------------------------------
# Values that are computed from a job. Each is named in the file, where its source and its jobs stand.

SHORT_RUN = 100  # steps: in runs up to about this LoRA takes a higher rate (LoRA Without Regret, footnote)
#: LoRA's best rate over full fine-tuning's, and the same in a short run (there, Optimal learning rates).
TIMES_FULL, TIMES_FULL_SHORT = 10, 15
#: Rates published for full fine-tuning itself, not derived from LoRA; :func:`ten_times_full` multiplies them.
OF_ALL_WEIGHTS = (
    "bench-full", "tulu-full", "llama-full", "trl-full", "prefix-paper-full", "tulu-preference",
    "handbook-preference", "grpo-full", "trl-preference",
)  # fmt: skip
LEAST_RANK, MOST_RANK = 8, 256


def ten_times_full(job: Job) -> Said | None:
    """Return ten times the rates of full fine-tuning for the same job; in a short run fifteen times."""
    full = Job("full", job.shape, job.objective, job.rows, job.row_tokens, job.devices, job.batch)
    rates = (rule.says(full) for rule in all_rules() if rule.id in OF_ALL_WEIGHTS)
    published_rates = [(said, said.band) for said in rates if said is not None and said.band]
    if not published_rates:
        return None
    factor = TIMES_FULL_SHORT if job.steps_per_epoch < SHORT_RUN and job.answers() else TIMES_FULL
    lows, highs = zip(*(band for _, band in published_rates), strict=True)
    return Said(factor * published_rates[0][0].value, factor * min(lows), factor * max(highs))


def tinker_lora(job: Job) -> Said:
    """Return the table's rate for a model family by size; families that the table lacks get Llama's."""
    family = job.shape.model_type
    if family.startswith("gpt_oss"):
        return Said(1e-4 if job.parameters <= 60 * BILLION else 3e-4)
    if family.startswith("qwen3_5"):
        return Said(3e-4)
    largest = 31 if family == "qwen3_moe" else 14 if family.startswith("qwen") else 5
    return Said(1e-3 if job.parameters <= largest * BILLION else 3e-4)


def tinker_full(job: Job) -> Said:
    """Return a tenth of the table's rate for LoRA."""
    return Said(tinker_lora(job).value / 10)


def per_rank(job: Job) -> int:
    """Return the parameters that one rank trains on all linear maps."""
    return sum((group.in_features + group.out_features) * group.count for group in job.shape.matrices)


def rank_by_tokens(job: Job) -> Said:
    """Return the rank whose parameters, at two bits each, hold one bit per token of the job's data."""
    if job.objective == "rl":
        return Said(LEAST_RANK, 1, MOST_RANK)
    need = job.tokens / per_rank(job)
    return Said(max(16, _power(need)), _power(need / 2), MOST_RANK)


def _power(number: float) -> int:
    """Return the next power of two from a number up, within the ranks that the sources used."""
    if number <= LEAST_RANK:
        return LEAST_RANK
    return int(min(2 ** math.ceil(math.log2(number)), MOST_RANK))


def alpha_twice_the_rank(job: Job) -> Said:
    """Return the alpha whose scale is 2 at the job's rank."""
    rank = _rank(job)
    return Said(round(2 * math.sqrt(rank)) if job.value("use_rslora") else 2 * rank)


def alpha_first_rank(job: Job) -> Said:
    """Return the job's rank."""
    return Said(_rank(job))


def _rank(job: Job) -> int:
    return int(job.value("r") or 16)


CALCULATIONS: Mapping[str, Calculation] = {
    function.__name__: function
    for function in (
        ten_times_full,
        tinker_lora,
        tinker_full,
        rank_by_tokens,
        alpha_twice_the_rank,
        alpha_first_rank,
    )
}
