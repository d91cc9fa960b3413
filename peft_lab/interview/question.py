"""Define a question of the bank: a text with computed numbers, an answer, and what an interviewer wants to hear.

Texts are templates. ``{{name}}`` is replaced by a number of the chosen model (``{{layers}}``, ``{{q_out}}`` ...), by a
given value of the question (``{{r}}``) or, in an answer, by a value that the calculation named. Formulas stand between
dollar signs (KaTeX), code between backticks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from peft_lab.core.content import Citation, by_id, read_entries
from peft_lab.core.errors import BadInput
from peft_lab.core.references import Fact
from peft_lab.core.units import Source
from peft_lab.interview.computed import MIXED, Answer, Case, Given, numbers_of
from peft_lab.methods import all_methods, get_method
from peft_lab.models.catalogue import readers_of_text, resolve
from peft_lab.models.shapes import ModelShape

CONTENT = Path(__file__).with_name("content")
Calculation = Callable[[Case], Answer]
Predicate = Callable[[ModelShape], bool]
Setting = bool | int | float | str | tuple[str, ...]
Level = Literal["basic", "medium", "hard"]
Kind = Literal["numeric", "choice", "free"]
Need = Literal["shape", "torch"]

LEVELS: tuple[Level, ...] = ("basic", "medium", "hard")
#: Questions on full fine-tuning are under memory and choosing.
_NO_TOPIC = frozenset({"full"})
_PLACE = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True)
class Topic:
    """A topic common to all methods. ``pages``: slugs of the pages to read on it, the best one first."""

    id: str
    title: str
    pages: tuple[str, ...]


@cache
def common_topics() -> Mapping[str, Topic]:
    """Return the topics that are no method's, in teaching order."""
    path = CONTENT / "topics.yaml"
    return by_id(path, read_entries(path, Topic))


@cache
def topics() -> Mapping[str, str]:
    """Return title by topic, in teaching order: every method of the registry, then the topics common to all."""
    methods = {slug: spec.title for slug, spec in all_methods().items() if slug not in _NO_TOPIC}
    return methods | {name: topic.title for name, topic in common_topics().items()}


def any_model(shape: ModelShape) -> bool:
    return True


@dataclass(frozen=True)
class Opens:
    """A state of the Lab to open. ``page``: its slug; ``values``: settings in its address, by the controls' names."""

    page: str
    values: Mapping[str, Setting] = field(default_factory=dict)


def read_opens(stated: Any) -> Opens:
    """Return the state of the Lab that content states: ``{page: lora, r: 16}``. Raises ValueError without a page."""
    if not isinstance(stated, Mapping) or "page" not in stated:
        raise ValueError("it needs a page, and may have settings: {page: lora, r: 16}")
    return Opens(stated["page"], {name: value for name, value in stated.items() if name != "page"})


@dataclass(frozen=True, kw_only=True)
class FollowUp:
    """One follow-up; they are asked in order, so each may build on the one before.

    Attributes:
        question, answer: templates about the case of the question that it follows.
        leads_to: id of the question that asks exactly this, in place of an answer.
        sources: where the answer comes from.
        calculate: the calculation for its number, on the case of the question that it follows; it fills ``{{value}}``
            and the names it defines.
        opens: where the Lab shows it.
    """

    question: str
    answer: str = ""
    leads_to: str = ""
    calculate: Calculation | None = None
    opens: Opens | None = None
    sources: tuple[Citation, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.answer) == bool(self.leads_to):
            raise ValueError("a follow-up has an answer, or leads to a question")


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """The interviewer's doubt about an answer: the learner holds to it or gives way, with reasons.

    Some doubts are justified: always holding on shows no more understanding than always giving way. Texts are
    templates about the question's case.

    Attributes:
        said: what the learner has just said. objection: the interviewer's reply.
        should: what to do; ``give way`` where what was said is wrong or goes too far.
        because: the reason, in spoken words.
        calculate: the calculation for the numbers in the texts; by default that of the question's own answer.
        opens: where the Lab shows it.
    """

    said: str
    objection: str
    should: Literal["hold", "give way"]
    because: str
    calculate: Calculation | None = None
    opens: Opens | None = None
    sources: tuple[Citation, ...]

    @property
    def holds(self) -> bool:
        return self.should == "hold"


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option of a choice. ``thought``: why it is wrong, where it is; ``right``: unless code decides."""

    text: str
    thought: str = ""
    right: bool = False


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question of the bank.

    Attributes:
        topic: stated by the name of its file.
        question, answer: templates.
        model: catalogue name of the model asked about by default; ``None`` if no model matters.
        fits: returns whether it can be asked about another model.
        options: of a choice.
        listen_for: what an interviewer wants to hear. ``wrong``: common wrong answers.
        calculate: the calculation; ``None`` for a written answer.
        given: the question's own numbers by placeholder.
        needs: ``torch`` for a calculation that must run in the inspector process; there, call
            :func:`peft_lab.interview.bank.compute_answer`.
        origin: where its figure comes from, if other than :attr:`source` infers.
        follow_ups: what is asked next, in this order.
        facts: what the answer states, in the form that is compared with leaves, claims and recipes.
    """

    id: str
    topic: str
    level: Level
    kind: Kind
    model: str | None = None
    fits: Predicate = any_model
    question: str
    answer: str
    options: tuple[Option, ...] = ()
    listen_for: tuple[str, ...]
    wrong: tuple[str, ...]
    calculate: Calculation | None = None
    given: Mapping[str, Given] = field(default_factory=dict)
    needs: Need = "shape"
    origin: Source | None = None
    follow_ups: tuple[FollowUp, ...] = ()
    doubt: Doubt | None = None
    facts: tuple[Fact, ...] = ()
    sources: tuple[Citation, ...]

    def __post_init__(self) -> None:
        if (self.kind == "choice") != bool(self.options):
            raise ValueError("a choice has options, and nothing else has")
        if self.kind == "choice" and sum(option.right for option in self.options) != (not self.computed):
            raise ValueError("one option of a choice is right, or a calculation decides")
        if self.kind != "choice" and (self.kind == "numeric") != self.computed:
            raise ValueError("a numeric question has a calculation, and a free one has none")

    @property
    def computed(self) -> bool:
        return self.calculate is not None

    @property
    def explained(self) -> bool:
        """Return whether the thoughts that lead to its wrong options are written."""
        return any(option.thought for option in self.options)

    @property
    def source(self) -> Source:
        """Return the kind of source of its answer. A figure about a model is counted from the model's shapes. A figure
        without a model follows from a rule in the papers and manuals in ``sources``, as a written answer does."""
        if self.origin is not None:
            return self.origin
        if self.needs == "torch":
            return Source.MEASURED
        return Source.COUNTED if self.computed and self.model else Source.CITED

    def source_of(self, text: str) -> Source:
        """Return the source of a text about this question's case: that of the answer for numbers, papers for words."""
        return self.source if placeholders(text) else Source.CITED

    def models(self) -> tuple[str, ...]:
        """Return the catalogue names of the models it can be asked about; empty if no model matters."""
        if self.model is None:
            return ()
        return tuple(name for name, entry in readers_of_text().items() if self.fits(entry.shape))

    def accepts(self, model: str) -> bool:
        """Return whether the question can be asked about this model."""
        return self.model is not None and self.fits(resolve(model).shape)

    def case(self, model: str | None = None, **given: Given) -> Case:
        """Return the case to ask about: ``model`` or the question's own, with some given values changed. Raises
        BadInput: the question does not fit the model, or has no given value of that name."""
        for name in given:
            if name not in self.given:
                raise BadInput(f"The question '{self.id}' has no setting '{name}'.", name)
        if self.model is None:
            return Case(None, {**self.given, **given})
        shape = resolve(model or self.model).shape
        if not self.fits(shape):
            raise BadInput(
                f"This question does not apply to {shape.title}. Try {', '.join(self.models())}.", "model"
            )
        return Case(shape, {**self.given, **given})

    def ask(self, model: str | None = None, **given: Given) -> str:
        """Return the question's text for a model. Raises :class:`BadInput` as :meth:`case`."""
        return fill(self.question, _words(self.case(model, **given)))

    def choices(self, model: str | None = None, **given: Given) -> tuple[str, ...]:
        """Return the options' texts."""
        words = _words(self.case(model, **given))
        return tuple(fill(option.text, words) for option in self.options)

    def compute(self, model: str | None = None, **given: Given) -> Answer | None:
        """Return the computed answer, ``None`` for a written one. With ``needs="torch"`` call it in the inspector."""
        return self.calculate(self.case(model, **given)) if self.calculate else None

    def explain(self, computed: Answer | None, model: str | None = None, **given: Given) -> str:
        """Return the model answer's text, with the computed numbers filled in."""
        words = _words(self.case(model, **given))
        if computed is not None:
            words |= {"value": computed.shown, **computed.named}
            if self.kind == "choice":
                words["value"] = self.choices(model, **given)[round(computed.value)]
        return fill(self.answer, words)

    def explain_follow_up(self, follow_up: FollowUp, model: str | None = None) -> tuple[str, str]:
        """Return a follow-up's question and answer, numbers filled in; the answer is empty if it leads elsewhere."""
        asked, answer = self._filled((follow_up.question, follow_up.answer), follow_up.calculate, model)
        return asked, answer

    def explain_doubt(self, doubt: Doubt, model: str | None = None) -> tuple[str, str, str]:
        """Return what the learner said, the objection to it, and the reason to hold or give way, numbers filled in."""
        texts = (doubt.said, doubt.objection, doubt.because)
        said, objection, because = self._filled(texts, doubt.calculate, model)
        return said, objection, because

    def _filled(
        self, texts: Sequence[str], calculate: Calculation | None, model: str | None
    ) -> tuple[str, ...]:
        """Return texts about this question's case, filled with a calculation's numbers; without one, with those of the
        question's own numeric answer, if that needs shapes only."""
        own = self.calculate if self.needs == "shape" and self.kind == "numeric" else None
        case, calculate = self.case(model), calculate or own
        words = _words(case)
        if calculate is not None:
            computed = calculate(case)
            words |= {"value": computed.shown, **computed.named}
        return tuple(fill(text, words) for text in texts)

    def thoughts(self, computed: Answer | None, model: str | None = None) -> tuple[str, ...]:
        """Return each wrong option with the reason why it is wrong."""
        right = self.right_option(computed)
        return tuple(
            f"{text}: {option.thought}"
            for index, (text, option) in enumerate(zip(self.choices(model), self.options, strict=True))
            if index != right
        )

    def right_option(self, computed: Answer | None) -> int:
        """Return the index of a choice's right option. Raises ValueError if the question is no choice."""
        if computed is not None:
            return round(computed.value)
        right = [index for index, option in enumerate(self.options) if option.right]
        if not right:
            raise ValueError(f"{self.id} is not a choice question")
        return right[0]


def fill(template: str, words: Mapping[str, str]) -> str:
    """Return the template with ``{{name}}`` replaced. Raises KeyError for an unknown name: a mistake in the bank."""
    return _PLACE.sub(lambda place: words[place.group(1)], template)


def placeholders(template: str) -> tuple[str, ...]:
    """Return the names that a template uses."""
    return tuple(_PLACE.findall(template))


def _words(case: Case) -> dict[str, str]:
    words = {name: _plain(value) for name, value in case.given.items()}
    if (shape := case.model) is None:
        return words
    names = {f"{role}_name": f"`{shape.target_name(group)}`" for role, group in shape.block.items()}
    own = {name: _plain(number) for name, number in numbers_of(shape).items()}
    return {**own, "model": shape.title, **words, **names}


def _plain(value: Given) -> str:
    if isinstance(value, tuple):
        return ", ".join(_plain(item) for item in value)
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else value


# ----------------------------------------
# The models that a question can be asked about.


GPU_GIGABYTES = 80  # decimal, of the card that full fine-tuning is asked about
FEW_POSITIONS = 8192  # up to here positions are scarce enough to be worth a question


def one_stack(shape: ModelShape) -> bool:
    """Return whether the model is an encoder or causal: a single stack of like layers."""
    return shape.kind != "seq2seq"


def separate_attention(shape: ModelShape) -> bool:
    """Return whether each layer, in one stack, has separate query, key, value and output maps, and no experts."""
    return one_stack(shape) and {"q", "k", "v", "o", "up", "down"} <= set(shape.block)


def gated(shape: ModelShape) -> bool:
    """Return whether the model has Llama-like blocks: seven maps, three of them in the feed-forward part."""
    return separate_attention(shape) and "gate" in shape.block


def causal(shape: ModelShape) -> bool:
    """Return whether the model generates and so caches keys and values."""
    return shape.kind == "causal-lm"


def with_biases(shape: ModelShape) -> bool:
    """Return whether the model has at least one bias, in one stack of layers."""
    return one_stack(shape) and bool(shape.biases)


@cache
def room_for(length: int) -> Callable[[ModelShape], bool]:
    """Return a predicate for causal models whose positions, if limited, are at least ``length`` tokens."""

    def fits(shape: ModelShape) -> bool:
        return causal(shape) and (shape.max_positions is None or shape.max_positions >= length)

    return fits


def takes(slug: str, shape: ModelShape) -> bool:
    """Return whether a method runs on the model with its defaults."""
    return not any(problem.level == "error" for problem in get_method(slug).problems(shape, {}))


def prefixed(shape: ModelShape) -> bool:
    """Return whether the model is causal and PEFT's prefix fits it."""
    return causal(shape) and takes("prefix", shape)


def prompted(shape: ModelShape) -> bool:
    """Return whether Prompt Tuning and P-Tuning run on it, in one stack of layers."""
    return one_stack(shape) and takes("prompt", shape)


#: The kinds of models that questions name, beside those that are functions of their own.
FITS: Mapping[str, Predicate] = {
    "fused_attention": lambda shape: "qkv" in shape.block,
    "grouped": lambda shape: shape.kv_heads < shape.heads,  # grouped-query attention
    "encoder": lambda shape: shape.kind == "encoder",
    "seq2seq": lambda shape: shape.kind == "seq2seq",
    "gated_causal": lambda shape: causal(shape) and gated(shape),
    # a BERT type: a bias in every linear map, learned positions, separate query and key
    "full_of_biases": lambda shape: with_biases(shape) and shape.kind == "encoder",
    "with_norm_biases": lambda shape: with_biases(shape) and any(group.is_norm for group, _ in shape.biases),
    "only_in_attention": lambda shape: (
        bool(shape.biases) and all(group.role in ("q", "k", "v") for group, _ in shape.biases)
    ),
    "without_biases": lambda shape: not shape.biases,
    "few_positions": lambda shape: (
        one_stack(shape) and shape.max_positions is not None and shape.max_positions <= FEW_POSITIONS
    ),
    "separate_and_prefixed": lambda shape: separate_attention(shape) and prefixed(shape),
    # a rate measured on one card, for a few billion parameters, is plausible for it
    "of_one_card": lambda shape: 3e9 <= shape.total <= 9e9,
    # its states in full fine-tuning exceed one card, so that splitting them is a question
    "too_large_for_one_gpu": lambda shape: shape.total * MIXED > GPU_GIGABYTES * 10**9,
}
