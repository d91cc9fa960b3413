"""A question of the bank: a text with computed numbers, a computed or written answer, and what an interviewer wants.

Texts are templates. ``{{name}}`` is replaced by a number of the chosen model (``{{layers}}``, ``{{q_out}}`` ...), by a
given value of the question (``{{r}}``) or, in an answer, by a value that the calculation named. Formulas stand between
dollar signs (KaTeX), code between backticks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Literal

from peft_lab.core.errors import BadInput
from peft_lab.core.facts import Fact
from peft_lab.core.units import Source
from peft_lab.interview.computed import Answer, Case, Given
from peft_lab.methods import all_methods, get_method
from peft_lab.models.catalogue import readers_of_text, resolve
from peft_lab.models.shapes import ModelShape

# ----------------------------------------
# Follow-ups: each has its own answer, or leads to another question of the bank.
#
# In a bank file::
#
#     follow_ups=(
#         then("And A = 0 instead?", "The same at step 0: ...", f"{src.LORA}, section 4.1", opens=lab("lora", r=16)),
#         then("How large is it at twice the rank?", "{{value}}.", src.ALGEBRA, calculate=calc.doubled),
#         then("Why is that so?", to="lora-why-b-zero"),
#     )
#
# They are asked in order, so each may build on the one before. Texts are templates like those of
# :class:`peft_lab.interview.question.Question`, about the same model with the same given values.


Calculation = Callable[[Case], Answer]
Setting = bool | int | float | str | tuple[str, ...]


@dataclass(frozen=True)
class Opens:
    """A state of the Lab to open. ``page``: its slug; ``values``: settings in its address, by the controls' names."""

    page: str
    values: Mapping[str, Setting] = field(default_factory=dict)


@dataclass(frozen=True)
class FollowUp:
    """One follow-up. Exactly one of ``answer`` and ``leads_to`` is given.

    Attributes:
        question, answer: templates.
        leads_to: id of the bank's question that asks exactly this; its answer is the answer.
        sources: where the answer comes from.
        calculate: the calculation for its number, on the case of the question that it follows; it fills ``{{value}}``
            and the names it defines.
        opens: where the Lab shows it.
    """

    question: str
    answer: str = ""
    leads_to: str = ""
    sources: tuple[str, ...] = ()
    calculate: Calculation | None = None
    opens: Opens | None = None


def then(
    question: str,
    answer: str = "",
    *sources: str,
    to: str = "",
    calculate: Calculation | None = None,
    opens: Opens | None = None,
) -> FollowUp:
    """Return a follow-up for a bank file: the question, the answer, and any number of sources."""
    return FollowUp(question, answer, to, sources, calculate, opens)


def lab(page: str, **values: Setting) -> Opens:
    """Return a state of the Lab: a page and the settings in its address."""
    return Opens(page, values)


Level = Literal["basic", "medium", "hard"]
Kind = Literal["numeric", "choice", "free"]
Need = Literal["shape", "torch"]

LEVELS: tuple[Level, ...] = ("basic", "medium", "hard")
_OTHER_TOPICS = {
    "memory": "Memory",
    "quantisation": "Quantisation",
    "serving": "Serving",
    "choosing": "Choosing a method",
    "training": "Training",
    "preference": "Preferences and rewards",
    "planning": "Planning a job",
    "merging": "Merging and shipping",
    "debugging": "Debugging",
    "safety": "Forgetting and safety",
}
#: Questions on full fine-tuning are under memory and choosing.
_NO_TOPIC = frozenset({"full"})
_PLACE = re.compile(r"\{\{(\w+)\}\}")


@cache
def topics() -> Mapping[str, str]:
    """Return title by topic, in teaching order: every method of the registry, then the topics common to all."""
    methods = {slug: spec.title for slug, spec in all_methods().items() if slug not in _NO_TOPIC}
    return methods | _OTHER_TOPICS


def any_model(shape: ModelShape) -> bool:
    return True


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question of the bank.

    Attributes:
        question, answer: templates.
        listen_for: what an interviewer wants to hear. ``wrong``: common wrong answers.
        follow_ups: what is asked next, in this order.
        model: catalogue name of the model asked about by default; ``None`` if no model matters.
        given: the question's own numbers by placeholder.
        options, correct: of a choice; ``correct`` is ``None`` if the calculation decides.
        because: for each option of a choice, the thought that leads to it; empty for the option that is always
            right.
        calculate: the calculation; ``None`` for a written answer.
        fits: returns whether it can be asked about another model.
        origin: where its figure comes from, if other than :attr:`source` infers.
        needs: ``torch`` for a calculation that must run in the inspector process; there, call
            :func:`peft_lab.interview.bank.compute_answer`.
        facts: what the answer states, in the form that is compared with leaves, claims and recipes.
    """

    id: str
    topic: str
    level: Level
    kind: Kind
    question: str
    answer: str
    listen_for: tuple[str, ...]
    wrong: tuple[str, ...]
    sources: tuple[str, ...]
    follow_ups: tuple[FollowUp, ...] = ()
    model: str | None = None
    given: Mapping[str, Given] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    correct: int | None = None
    because: tuple[str, ...] = ()
    calculate: Callable[[Case], Answer] | None = None
    fits: Callable[[ModelShape], bool] = any_model
    needs: Need = "shape"
    origin: Source | None = None
    facts: tuple[Fact, ...] = ()

    @property
    def computed(self) -> bool:
        return self.calculate is not None

    @property
    def source(self) -> Source:
        """The kind of source of its answer.

        A figure about a model is counted from the model's shapes. A figure without a model follows from a rule in the
        papers and manuals in ``sources``, as a written answer does.
        """
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
        """Return whether it can be asked about this model."""
        return self.model is not None and self.fits(resolve(model).shape)

    def case(self, model: str | None = None, **given: Given) -> Case:
        """Return the case to ask about: ``model`` or the question's own, with some given values changed.

        Raises:
            BadInput: the question does not fit the model, or has no given value of that name.
        """
        for name in given:
            if name not in self.given:
                raise BadInput(f"The question '{self.id}' has no '{name}' to change.", name)
        if self.model is None:
            return Case(None, {**self.given, **given})
        shape = resolve(model or self.model).shape
        if not self.fits(shape):
            raise BadInput(
                f"This question cannot be asked about {shape.title}; try {', '.join(self.models())}.", "model"
            )
        return Case(shape, {**self.given, **given})

    def ask(self, model: str | None = None, **given: Given) -> str:
        """Return the question's text for a model. Raises :class:`BadInput` as :meth:`case`."""
        return fill(self.question, _words(self.case(model, **given)))

    def choices(self, model: str | None = None, **given: Given) -> tuple[str, ...]:
        """Return the options' texts."""
        words = _words(self.case(model, **given))
        return tuple(fill(option, words) for option in self.options)

    def compute(self, model: str | None = None, **given: Given) -> Answer | None:
        """Return the computed answer, ``None`` for a written one. With ``needs="torch"`` call it in the inspector."""
        return self.calculate(self.case(model, **given)) if self.calculate else None

    def explain(self, computed: Answer | None, model: str | None = None, **given: Given) -> str:
        """Return the model answer's text, with the computed numbers filled in."""
        words = _words(self.case(model, **given))
        if computed is not None:
            words = {**words, "value": computed.shown, **computed.named}
        if computed is not None and self.kind == "choice":
            words["value"] = self.choices(model, **given)[round(computed.value)]
        return fill(self.answer, words)

    def explain_follow_up(self, follow_up: FollowUp, model: str | None = None) -> tuple[str, str]:
        """Return a follow-up's question and answer, numbers filled in; the answer is empty if it leads elsewhere."""
        asked, answer = self.fill_in((follow_up.question, follow_up.answer), follow_up.calculate, model)
        return asked, answer

    def fill_in(
        self, texts: Sequence[str], calculate: Calculation | None, model: str | None = None
    ) -> tuple[str, ...]:
        """Return texts about this question's case, filled with a calculation's numbers; without one, with those of the
        question's own numeric answer, if that needs shapes only."""
        case = self.case(model)
        words = _words(case)
        calculate = calculate or (
            self.calculate if self.needs == "shape" and self.kind == "numeric" else None
        )
        if calculate is not None:
            computed = calculate(case)
            words = {**words, "value": computed.shown, **computed.named}
        return tuple(fill(text, words) for text in texts)

    def thoughts(self, computed: Answer | None, model: str | None = None) -> tuple[str, ...]:
        """Return each wrong option with the thought that leads to it."""
        right = self.right_option(computed)
        texts = zip(self.choices(model), self.because, strict=True)
        return tuple(
            f"{option}: {why[0].lower()}{why[1:]}"
            for index, (option, why) in enumerate(texts)
            if index != right
        )

    def right_option(self, computed: Answer | None) -> int:
        """Return the index of a choice's right option. Raises ValueError if the question is no choice."""
        if computed is not None:
            return round(computed.value)
        if self.correct is None:
            raise ValueError(f"{self.id} is no choice")
        return self.correct


def followed(
    questions: Sequence[Question], follow_ups: Mapping[str, tuple[FollowUp, ...]]
) -> tuple[Question, ...]:
    """Return the questions with the follow-ups that a separate file defines, by id.

    Raises:
        ValueError: a mistake in the bank: no such question, or it has follow-ups in its own file.
    """
    known = {question.id: question for question in questions}
    for name in follow_ups:
        if name not in known or known[name].follow_ups:
            raise ValueError(f"follow-ups to '{name}' have no place")
    return tuple(
        replace(question, follow_ups=follow_ups[question.id]) if question.id in follow_ups else question
        for question in questions
    )


def fill(template: str, words: Mapping[str, str]) -> str:
    """Return the template with ``{{name}}`` replaced. Raises KeyError for an unknown name: a mistake in the bank."""
    return _PLACE.sub(lambda place: words[place.group(1)], template)


def placeholders(template: str) -> tuple[str, ...]:
    """Return the names that a template uses."""
    return tuple(_PLACE.findall(template))


def _words(case: Case) -> dict[str, str]:
    words = {name: _plain(value) for name, value in case.given.items()}
    if case.model is None:
        return words
    shape = case.model
    numbers: dict[str, int | None] = {
        "layers": shape.num_layers, "hidden": shape.hidden, "heads": shape.heads, "kv_heads": shape.kv_heads,
        "head_dim": shape.head_dim, "kv_width": shape.kv_width, "intermediate": shape.intermediate,
        "vocab": shape.vocab, "positions": shape.max_positions, "total": shape.total,
    }  # fmt: skip
    for role, group in shape.block.items():
        numbers |= {f"{role}_in": group.in_features, f"{role}_out": group.out_features}
        words[f"{role}_name"] = f"`{shape.target_name(group)}`"
    own = {name: _plain(number) for name, number in numbers.items() if number is not None}
    return {**own, "model": shape.title, **words}


def _plain(value: Given) -> str:
    if isinstance(value, tuple):
        return ", ".join(_plain(item) for item in value)
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else value


# ----------------------------------------
# Defend it: the interviewer doubts an answer, and the learner holds to it or gives way, with reasons.
#
# Some doubts are justified: always holding on shows no more understanding than always giving way.
#
# In a file of challenges::
#
#     CHALLENGES = (
#         hold("lora-scale", "α/r, so {{value}}.", "No: a larger rank corrects more.", "Because ...", src.X),
#         give_way("lora-rslora", "It adds parameters.", "Does it?", "It does not: ...", src.Y),
#     )


@dataclass(frozen=True, kw_only=True)
class Challenge:
    """One doubt. Texts are templates about the case of the question that it follows.

    Attributes:
        question: id of the question of the bank.
        said: what the learner has just said. ``doubt``: the interviewer's reply.
        holds: whether what was said is right, so that the learner should hold to it rather than give way.
        because: the reason, in spoken words.
        calculate: the calculation for the numbers in the texts; by default that of the question's own answer.
        opens: where the Lab shows it.
    """

    question: str
    said: str
    doubt: str
    holds: bool
    because: str
    sources: tuple[str, ...]
    calculate: Calculation | None = None
    opens: Opens | None = None


def hold(
    question: str,
    said: str,
    doubt: str,
    because: str,
    *sources: str,
    calculate: Calculation | None = None,
    opens: Opens | None = None,
) -> Challenge:
    """Return a doubt about a right statement."""
    return Challenge(
        question=question, said=said, doubt=doubt, holds=True, because=because, sources=sources,
        calculate=calculate, opens=opens,
    )  # fmt: skip


def give_way(
    question: str,
    said: str,
    doubt: str,
    because: str,
    *sources: str,
    calculate: Calculation | None = None,
    opens: Opens | None = None,
) -> Challenge:
    """Return a doubt about a statement that is wrong or goes too far."""
    return Challenge(
        question=question, said=said, doubt=doubt, holds=False, because=because, sources=sources,
        calculate=calculate, opens=opens,
    )  # fmt: skip


# ----------------------------------------
# The models that a question can be asked about.


FEW_POSITIONS = 8192  # up to here positions are scarce enough to be worth a question


def one_stack(shape: ModelShape) -> bool:
    """Return whether it is an encoder or causal model: a single stack of like layers."""
    return shape.kind != "seq2seq"


def separate_attention(shape: ModelShape) -> bool:
    """Return whether it has separate query, key, value and output maps, in one stack of layers."""
    return one_stack(shape) and {"q", "k", "v", "o"} <= set(shape.block)


def gated(shape: ModelShape) -> bool:
    """Return whether it has Llama-like blocks: seven maps, three of them in the feed-forward part."""
    return separate_attention(shape) and "gate" in shape.block


def causal(shape: ModelShape) -> bool:
    """Return whether the model generates and so caches keys and values."""
    return shape.kind == "causal-lm"


def with_biases(shape: ModelShape) -> bool:
    """Return whether it has at least one bias, in one stack of layers."""
    return one_stack(shape) and bool(shape.biases)


def without_biases(shape: ModelShape) -> bool:
    return not shape.biases


def few_positions(shape: ModelShape) -> bool:
    """Return whether its number of positions is fixed and small, in one stack of layers."""
    return one_stack(shape) and shape.max_positions is not None and shape.max_positions <= FEW_POSITIONS


def room_for(length: int) -> Callable[[ModelShape], bool]:
    """Return a predicate for causal models whose positions, if limited, are at least ``length`` tokens."""

    def fits(shape: ModelShape) -> bool:
        return causal(shape) and (shape.max_positions is None or shape.max_positions >= length)

    return fits


def takes(slug: str, shape: ModelShape) -> bool:
    """Return whether a method runs on the model with its defaults."""
    return not any(problem.level == "error" for problem in get_method(slug).problems(shape, {}))


def prefixed(shape: ModelShape) -> bool:
    """Return whether it is a causal model that PEFT's prefix fits."""
    return causal(shape) and takes("prefix", shape)


def prompted(shape: ModelShape) -> bool:
    """Return whether Prompt Tuning and P-Tuning run on it, in one stack of layers."""
    return one_stack(shape) and takes("prompt", shape)
