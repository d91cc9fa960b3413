"""Claims about PEFT: what each says, the code that finds out what is so, and the shipped results of slow checks.

``interview/content/claims/<topic>.yaml`` has the words, one entry a claim. ``counting``, ``simulating`` and
``comparing`` have the checks, by which a verdict is found and never typed. ``base`` says what a claim is.
"""

from __future__ import annotations

import importlib
import inspect
import re
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from importlib import metadata
from math import sqrt
from pathlib import Path
from typing import Any, Literal, NewType

from peft_lab.core import disk, units
from peft_lab.core.content import CitingText, by_name, fill_citations, read_table
from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.core.references import Fact
from peft_lab.core.units import Source
from peft_lab.interview import question
from peft_lab.interview.question import takes, topics
from peft_lab.methods import get_method
from peft_lab.models.catalogue import readers_of_text, resolve
from peft_lab.models.shapes import ModelShape

Verdict = Literal["right", "imprecise", "wrong"]
VERDICTS: tuple[Verdict, ...] = ("right", "imprecise", "wrong")
Origin = Literal["text", "saying"]
FIRST = "llama-3.2-3b"


@dataclass(frozen=True)
class Found:
    """What is found on one model.

    Attributes:
        verdict: follows from the figures wherever figures decide.
        found: the figures, in one or two sentences without a full stop at the end of the last.
        why: what explains them.
        values: the figures themselves, by name, as the machine found them.
        cited: published figures beside those of ``found``, as a sentence of the same kind; empty where there are none.
    """

    verdict: Verdict
    found: str
    why: str
    values: dict[str, float] = field(default_factory=dict)
    cited: str = ""


@dataclass(frozen=True)
class Checked:
    """What a check returns: figures, and no sentence.

    Attributes:
        values: as in :class:`Found`. words: further numbers, texts and lists of (title, number) that sentences name.
        case: which of the claim's other sentences are right here; empty for its usual ones.
    """

    verdict: Verdict
    values: dict[str, float]
    words: Mapping[str, Any] = field(default_factory=dict)
    case: str = ""


@dataclass(frozen=True)
class ClaimModel:
    """The model a claim is checked on."""

    name: str

    @property
    def shape(self) -> ModelShape:
        return resolve(self.name).shape

    def trained(self, method: str, **values: Any) -> int:
        """Trainable parameters by the method's formula. Raises BadInput where it cannot be applied."""
        spec = get_method(method)
        return spec.formula(self.shape, spec.require(self.shape, values)).trainable

    def stored(self, method: str, **values: Any) -> int:
        """Stored parameters by the method's formula."""
        spec = get_method(method)
        return spec.formula(self.shape, spec.require(self.shape, values)).stored

    def total(self, method: str, **values: Any) -> int:
        """All parameters, those that the method adds included."""
        spec = get_method(method)
        return self.shape.total + spec.formula(self.shape, spec.require(self.shape, values)).added

    def share(self, method: str, **values: Any) -> float:
        """Trainable parameters in percent of all."""
        return 100 * self.trained(method, **values) / self.total(method, **values)


#: A sentence with places for figures, ``{needed:size}``: a name of the check's, and one of the :data:`FORMATS` or a
#: format of Python's. ``{model}`` is the model's title.
Template = NewType("Template", str)


@dataclass(frozen=True)
class Texts:
    """Sentences for a special case; an empty one stands for the claim's usual one."""

    found: Template = Template("")
    why: Template = Template("")
    cited: Template = Template("")


Check = Callable[[ClaimModel], Checked]
Fits = Callable[[ModelShape], bool]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim.

    Attributes:
        claim: what is meant, as a short sentence. quote: the words themselves.
        origin: ``text`` for the source text, ``saying`` for what is often said.
        topic: as in :func:`peft_lab.interview.question.topics`.
        check: works on a model. needs: ``torch`` for one that belongs into the inspector process.
        source: where what is found comes from. how: by which code or reference.
        found, why, cited: the sentences of :class:`Found`. cases: others, by the check's ``case``.
        model: on which model it is checked first; ``None`` where none matters.
        fits: which models it can be checked on.
        facts: what comes out of it, in the form that is compared with what leaves, questions and recipes say.
    """

    id: str
    claim: str
    quote: str
    topic: str
    check: Check
    source: Source
    how: CitingText
    found: Template
    why: Template
    cited: Template = Template("")
    cases: Mapping[str, Texts] = field(default_factory=dict, hash=False)
    origin: Origin = "text"
    needs: Literal["shape", "torch"] = "shape"
    model: str | None = FIRST
    fits: Fits = field(default=lambda shape: True)
    facts: tuple[Fact, ...] = ()

    @property
    def topic_order(self) -> int:
        return list(topics()).index(self.topic)

    def models(self) -> tuple[str, ...]:
        """Catalogue names of the models it can be checked on; empty when none matters."""
        if self.model is None:
            return ()
        return tuple(name for name, entry in readers_of_text().items() if self.fits(entry.shape))

    def on(self, model: str | None = None) -> Found:
        """What is found on a model, its own by default.

        Raises:
            BadInput: a model that it cannot be checked on. SimulationError: a step that cannot be simulated.
        """
        name = model or self.model or FIRST
        shape = resolve(name).shape
        if self.model is not None and not self.fits(shape):
            raise BadInput(
                f"This cannot be checked on {shape.title}; try {', '.join(self.models())}.", "model"
            )
        checked = self.check(ClaimModel(name))
        texts = self.cases[checked.case] if checked.case else Texts()
        words = {"model": shape.title, **checked.values, **checked.words}
        found, why, cited = (
            _FORMATTER.vformat(text, (), words)
            for text in (texts.found or self.found, texts.why or self.why, texts.cited or self.cited)
        )
        return Found(checked.verdict, found, why, checked.values, cited)

    @property
    def general(self) -> bool:
        """Whether it is checked on every model of the catalogue at once, and the verdict is about them all."""
        return self.needs == "shape" and self.model is not None


# ----------------------------------------
# Figures in sentences.


def times(value: float) -> str:
    """How many times: three digits."""
    return f"{value:,.3g} times"


FORMATS: dict[str, Callable[[Any], str]] = {
    "share": units.percent,
    "size": units.size,
    "count": units.count,
    "short": units.short_count,
    "times": times,
    "sizes": lambda pairs: ", ".join(f"{title} {units.size(size)}" for title, size in pairs),
    "sizes with": lambda pairs: ", ".join(f"{units.size(size)} with {title}" for title, size in pairs),
    "trained and needed": lambda rows: "; ".join(
        f"{title} trains {units.count(count)} and needs {units.size(size)}" for title, count, size in rows
    ),
    "counts": lambda pairs: ", ".join(f"{title} {units.count(count)}" for title, count in pairs),
}


class _Formatter(string.Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        write = FORMATS.get(format_spec)
        return write(value) if write else str(super().format_field(value, format_spec))


_FORMATTER = _Formatter()
_PYTHONS = re.compile(r"[,.\d]*[fg%]?")


def read_template(text: Any) -> Template:
    """Return a template with its citations filled in. Raises ValueError for a place that cannot be filled."""
    filled = fill_citations(text)
    for _, _, form, _ in string.Formatter().parse(filled):
        if form and not _PYTHONS.fullmatch(form):
            by_name(FORMATS, "format of figures")(form)
    return Template(filled)


# ----------------------------------------
# How a verdict follows from a figure.


ABOUT = 0.25  # relative: what "about" still covers
SURE = 2  # standard errors: a smaller difference between two scores proves nothing
FACTOR = 10  # beyond this factor off a bound a claim is wrong rather than imprecise


def within(value: float, low: float, high: float) -> Verdict:
    """Right inside the bounds, imprecise less than a factor of ten outside, else wrong."""
    if low <= value <= high:
        return "right"
    return "imprecise" if low / FACTOR <= value <= high * FACTOR else "wrong"


def about(value: float, stated: float) -> Verdict:
    """Right within a quarter of what was stated, imprecise less than a factor of ten off, else wrong."""
    if abs(value - stated) <= ABOUT * stated:
        return "right"
    return within(value, stated, stated)


def both(first: bool, second: bool) -> Verdict:
    """Right when both parts hold, imprecise when one does, else wrong."""
    return "right" if first and second else "imprecise" if first or second else "wrong"


def holds(statement: bool) -> Verdict:
    """Right or wrong."""
    return "right" if statement else "wrong"


def error(first: float, second: float, rows: int) -> float:
    """The standard error of a difference between two shares of right answers, each out of ``rows``.

    >>> round(error(0.5, 0.5, 1_319), 4)
    0.0195
    """
    return sqrt((first * (1 - first) + second * (1 - second)) / rows)


def apart(difference: float, one_error: float) -> Verdict:
    """Right where a difference is above what chance explains, wrong where it is as far below, else imprecise.

    >>> [apart(difference, 1.0) for difference in (2.1, 1.9, -1.9, -2.1)]
    ['right', 'imprecise', 'imprecise', 'wrong']
    """
    return holds(difference > 0) if abs(difference) > SURE * one_error else "imprecise"


CONTENT = Path(__file__).parents[1] / "content" / "claims"
_CHECKS = ("counting", "simulating", "comparing")


def _functions(module: str) -> dict[str, Callable[..., Any]]:
    """Return the functions that a module of this package defines, by name."""
    loaded = importlib.import_module(f"{__name__}.{module}")
    return {
        name: value for name, value in vars(loaded).items()
        if inspect.isfunction(value) and value.__module__ == loaded.__name__
    }  # fmt: skip


@cache
def all_claims() -> dict[str, Claim]:
    """Every claim by id, the source text's first."""
    checks = {name: check for module in _CHECKS for name, check in _functions(module).items()}
    models: dict[str, Fits] = {
        "one stack": question.one_stack,
        "separate attention": question.separate_attention,
        "with biases": question.with_biases,
        "takes a prefix": question.prefixed,
        "takes a prompt": question.prompted,
        "takes LoRA": partial(takes, "lora"),
        "takes QLoRA": lambda shape: question.separate_attention(shape) and takes("qlora", shape),
        "takes a prompt and LoRA": lambda shape: takes("prompt", shape) and takes("lora", shape),
        "causal with separate attention": lambda shape: (
            question.separate_attention(shape) and question.causal(shape)
        ),
        "the first": checks["is_meant"],
    }
    converters = {
        Check: by_name(checks, "check"),
        Fits: by_name(models, "kind of model"),
        Template: read_template,
    }
    paths = [CONTENT / f"{topic}.yaml" for topic in topics()]
    table = read_table((path for path in paths if path.exists()), Claim, "id", converters)
    return dict(sorted(table.items(), key=lambda item: (item[1].origin != "text", item[1].topic_order)))


def get_claim(name: str) -> Claim:
    """A claim by id. Raises :class:`UnknownName` with the nearest one."""
    try:
        return all_claims()[name]
    except KeyError:
        raise UnknownName("claim", name, all_claims(), "claim") from None


# ----------------------------------------
# The verdict on a claim about all models of the catalogue, not about one.


@cache
def on_all(claim_id: str) -> dict[str, Found]:
    """What is found on each model of the catalogue that a general claim can be checked on."""
    claim = get_claim(claim_id)
    return {name: claim.on(name) for name in claim.models()} if claim.general else {}


def overall(claim: Claim, here: Found) -> Found:
    """The verdict on the claim as it stands: right where it holds on every model, wrong where on none.

    A claim that is not general has the verdict of the model it was checked on.
    """
    verdicts = {found.verdict for found in on_all(claim.id).values()}
    if not verdicts:
        return here
    return replace(here, verdict=verdicts.pop() if len(verdicts) == 1 else "imprecise")


# ``found.json`` is written by ``python -m tools.refresh_claims``; a slow test runs every check again. It says with
# which
# libraries, where and when they were found, and so does whoever shows them.


KEPT_FILE = "found.json"
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes")


@dataclass(frozen=True)
class Taken:
    """How the kept results were found.

    Attributes:
        packages: name -> version. date: year-month-day. machine: processor and system, as a sentence would have it.
    """

    packages: Mapping[str, str]
    date: str
    machine: str

    def __str__(self) -> str:
        libraries = ", ".join(f"{name} {version}" for name, version in self.packages.items())
        return f"{self.date} on {self.machine}, with {libraries}"

    def differing(self) -> dict[str, str]:
        """The libraries that are installed here in another version, with that version."""
        return {name: here for name, here in kept_versions().items() if here != self.packages[name]}


def kept_versions() -> dict[str, str]:
    """The libraries that results depend on, as installed; without a build's local part."""
    return {name: metadata.version(name).partition("+")[0] for name in PACKAGES}


@cache
def result_seconds() -> Taken:
    """How, where and when the kept results were found."""
    content = _read()
    return Taken(content["packages"], content["date"], content["machine"])


def kept_result(claim: str) -> Found | None:
    """The kept result of a claim, ``None`` where there is none."""
    known = _read()["found"].get(claim)
    return Found(**known) if known is not None else None


def is_settled(name: str, model: str | None = None) -> tuple[Found, bool]:
    """What is found, kept results included, and whether it was kept. Runs torch for what is neither kept nor simple."""
    # MOVED

    claim = get_claim(name)
    known = kept_result(name) if claim.needs == "torch" and model in (None, claim.model) else None
    return (known, True) if known is not None else (claim.on(model), False)


@cache
def _read() -> dict[str, Any]:
    content: dict[str, Any] = disk.read_json(Path(__file__).with_name(KEPT_FILE))
    return content


# ----------------------------------------
# Claims as questions to another process: plain arguments in, plain data out.


def answer_claim(claim: str, model: str | None = None) -> Found:
    """:meth:`peft_lab.interview.claims.Claim.on` by the claim's id. Raises as there."""
    # MOVED

    return get_claim(claim).on(model)
