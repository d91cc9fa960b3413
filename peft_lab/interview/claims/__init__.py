"""Check claims about PEFT: the claims' texts, the code that decides about them, and stored results of slow checks.

``interview/content/claims/<topic>.yaml`` has the texts, one entry per claim. Its ``check`` computes the
verdict: formulas (``deciding``), or a function of ``comparing`` or ``simulating``; no verdict is written by hand.
"""

from __future__ import annotations

import inspect
import re
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NewType

from peft_lab.core import disk, units
from peft_lab.core.content import CitingText, Converters, Through, by_name, fill_citations, read_table
from peft_lab.core.errors import BadInput, named
from peft_lab.core.references import Fact
from peft_lab.core.units import Source
from peft_lab.interview import question
from peft_lab.interview.claims import comparing, deciding, simulating
from peft_lab.interview.claims.verdicts import FIRST, Checked, ClaimModel, Found
from peft_lab.interview.computed import numbers_of, parts_of
from peft_lab.interview.question import takes, topics
from peft_lab.models.catalogue import readers_of_text, resolve
from peft_lab.models.shapes import ModelShape

Origin = Literal["text", "saying"]


#: A sentence with places for figures, ``{needed:size}``: a name of the check's, and one of the :data:`FORMATS` or a
#: format of Python's. ``{model}`` is the model's title.
Template = NewType("Template", str)


@dataclass(frozen=True)
class Texts:
    """A claim's sentences for a special case; an empty one is replaced by the usual one."""

    found: Template = Template("")
    why: Template = Template("")
    cited: Template = Template("")


Check = Callable[[ClaimModel], Checked]
Fits = Callable[[ModelShape], bool]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim.

    Attributes:
        claim: its meaning, as a short sentence. quote: its original wording.
        origin: ``text`` for the source text, ``saying`` for a common saying.
        topic: as in :func:`peft_lab.interview.question.topics`.
        check: the check function. needs: ``torch`` if the check has to run in the inspector process.
        source: the kind of source of the result. how: the code or reference that gives it.
        found, why, cited: the sentences of :class:`Found`. cases: others, by the check's ``case``.
        model: the model it is checked on first; ``None`` if no model matters.
        fits: returns whether it can be checked on a model.
        facts: what follows from it, in the form that is compared with the tree's advice, questions and recipes.
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
        """Return the catalogue names of the models it can be checked on; empty if no model matters."""
        if self.model is None:
            return ()
        return tuple(name for name, entry in readers_of_text().items() if self.fits(entry.shape))

    def on(self, model: str | None = None) -> Found:
        """Check the claim on a model, its own by default, and return the result. Raises BadInput: it cannot be checked
        on this model. SimulationError: a step cannot be simulated."""
        name = model or self.model or FIRST
        shape = resolve(name).shape
        if self.model is not None and not self.fits(shape):
            raise BadInput(
                f"This claim cannot be checked on {shape.title}; try {', '.join(self.models())}.", "model"
            )
        checked = self.check(ClaimModel(shape, {}, name))
        texts = self.cases[checked.case] if checked.case else Texts()
        words = {
            **numbers_of(shape),
            **parts_of(shape),
            "model": shape.title,
            **checked.values,
            **checked.words,
        }
        found, why, cited = (
            _FORMATTER.vformat(text, (), words)
            for text in (texts.found or self.found, texts.why or self.why, texts.cited or self.cited)
        )
        return Found(checked.verdict, found, why, checked.values, cited)

    @property
    def general(self) -> bool:
        """Return whether it is checked on every model of the catalogue, so that the verdict is about all of them."""
        return self.needs == "shape" and self.model is not None


# ----------------------------------------
# Figures in sentences.


FORMATS: dict[str, Callable[[Any], str]] = {
    "share": units.percent,
    "size": units.size,
    "count": units.count,
    "short": units.short_count,
    "times": lambda ratio: f"{ratio:,.3g} times",
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


CONTENT = Path(__file__).parents[1] / "content" / "claims"


@cache
def all_claims() -> dict[str, Claim]:
    """Return every claim by id, those of the source text first."""
    checks: dict[str, Check] = {
        name: value
        for module in (comparing, simulating)
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__annotations__ == {"model": "ClaimModel", "return": "Checked"}
    }
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
        "the first": lambda shape: shape.name == FIRST,
    }
    converters: Converters = {
        Check: Through(
            str | deciding.Decision,
            lambda stated: by_name(checks, "check")(stated) if isinstance(stated, str) else stated,
        ),
        Fits: by_name(models, "kind of model"),
        Template: read_template,
    }
    paths = [CONTENT / f"{topic}.yaml" for topic in topics()]
    table = read_table((path for path in paths if path.exists()), Claim, "id", converters)
    return dict(sorted(table.items(), key=lambda item: (item[1].origin != "text", item[1].topic_order)))


def get_claim(name: str) -> Claim:
    """Return a claim by id. Raises :class:`UnknownName` with the nearest one."""
    return named("claim", name, all_claims(), "claim")


# ----------------------------------------
# The verdict on a claim about all models of the catalogue, not about one.


@cache
def on_all(claim_id: str) -> dict[str, Found]:
    """Return the results on all models of the catalogue that a general claim can be checked on, by model."""
    claim = get_claim(claim_id)
    return {name: claim.on(name) for name in claim.models()} if claim.general else {}


def overall(claim: Claim, here: Found) -> Found:
    """Return the verdict on the claim as a whole: that of all models if they agree, else imprecise. A claim that is not
    general has the verdict of the model it was checked on."""
    verdicts = {found.verdict for found in on_all(claim.id).values()}
    if not verdicts:
        return here
    return replace(here, verdict=verdicts.pop() if len(verdicts) == 1 else "imprecise")


# ``found.json`` is written by ``python -m tools.refresh_claims``; a slow test runs every check again. It states with
# which libraries, where and when the results were computed, and pages show that beside them.


KEPT_FILE = "found.json"
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes")


@dataclass(frozen=True)
class Taken:
    """The circumstances in which the stored results were computed. ``packages``: name -> version. ``date``:
    year-month-day. ``machine``: processor and system, as a sentence would have it."""

    packages: Mapping[str, str]
    date: str
    machine: str

    def __str__(self) -> str:
        libraries = ", ".join(f"{name} {version}" for name, version in self.packages.items())
        return f"{self.date} on {self.machine}, with {libraries}"

    def differing(self) -> dict[str, str]:
        """Return the libraries that have another version here, with that version."""
        return {name: here for name, here in kept_versions().items() if here != self.packages[name]}


def kept_versions() -> dict[str, str]:
    """Return the installed versions of the libraries that results depend on, without a build's local part."""
    return {name: metadata.version(name).partition("+")[0] for name in PACKAGES}


@cache
def result_seconds() -> Taken:
    """Return how, where and when the stored results were computed."""
    content = _read()
    return Taken(content["packages"], content["date"], content["machine"])


def kept_result(claim: str) -> Found | None:
    """Return the stored result of a claim; ``None`` if there is none."""
    known = _read()["found"].get(claim)
    return Found(**known) if known is not None else None


def is_settled(name: str, model: str | None = None) -> tuple[Found, bool]:
    """Return the result of a claim, and whether it was stored; otherwise its check runs now, which may need torch."""
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
    """Call :meth:`peft_lab.interview.claims.Claim.on` for a claim's id. Raises the same errors."""
    return get_claim(claim).on(model)
