"""The bank: every question by id. A module here is a method's, named by its slug, or a topic's.

A method of the registry without questions of its own gets one question made for it, so that a new method is asked about
from its first day.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache
from types import ModuleType

from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.interview.computed import Answer, Case, Given, Whole, line, tex
from peft_lab.interview.question import LEVELS, Question, then, topics
from peft_lab.methods import all_methods
from peft_lab.methods.base import MethodSpec

__all__ = ["all_questions", "compute_answer", "get_question", "make_question", "select", "topics"]


def topic_modules() -> list[ModuleType]:
    """Return the modules of the bank by name. Each defines ``QUESTIONS``, ``CHALLENGES`` or both."""
    names = sorted(info.name for info in pkgutil.iter_modules(__path__))
    return [importlib.import_module(f"{__name__}.{name}") for name in names]


@cache
def all_questions() -> dict[str, Question]:
    """Every question by id, topics in teaching order, easy ones first within a topic, and a method's own first."""
    found: list[Question] = []
    order = list(topics())
    modules = {module.__name__.rpartition(".")[2]: module for module in topic_modules()}
    for slug, spec in all_methods().items():
        if slug in modules:
            found.extend(modules.pop(slug).QUESTIONS)
        elif slug in order:
            found.append(make_question(spec))
    for module in modules.values():
        found.extend(getattr(module, "QUESTIONS", ()))
    found.sort(key=lambda question: (order.index(question.topic), LEVELS.index(question.level)))
    bank = {question.id: question for question in found}
    if len(bank) != len(found):
        raise ValueError("two questions of the bank have the same id")
    return bank


def get_question(name: str) -> Question:
    """A question by id. Raises :class:`UnknownName` with the nearest one."""
    try:
        return all_questions()[name]
    except KeyError:
        raise UnknownName("question", name, all_questions()) from None


def select(topic: Iterable[str] = (), level: Iterable[str] = (), model: str | None = None) -> list[Question]:
    """The questions of these topics and levels; empty means all. With ``model``, those that can be asked about it.

    Raises:
        UnknownName: a topic or level that there is none of.
    """
    wanted_topics, wanted_levels = tuple(topic), tuple(level)
    for name in wanted_topics:
        if name not in topics():
            raise UnknownName("topic", name, topics(), "topic")
    for name in wanted_levels:
        if name not in LEVELS:
            raise UnknownName("level", name, LEVELS, "level")
    return [
        question
        for question in all_questions().values()
        if (not wanted_topics or question.topic in wanted_topics)
        and (not wanted_levels or question.level in wanted_levels)
        and (model is None or question.accepts(model))
    ]


def compute_answer(name: str, model: str | None = None, given: dict[str, Given] | None = None) -> Answer:
    """The computed answer by id, for the inspector process: ``inspector.ask(compute_answer, "quant-nf4-error")``.

    Raises:
        BadInput: a question with a written answer, or a model that it does not fit.
    """
    answer = get_question(name).compute(model, **(given or {}))
    if answer is None:
        raise BadInput(f"The answer to '{name}' is written, not computed.")
    return answer


def make_question(spec: MethodSpec) -> Question:
    """The count of a method at its defaults, for a method that has no questions of its own."""

    def defaults(case: Case) -> Answer:
        formula = spec.formula(case.shape, spec.require(case.shape, {}))
        steps = [line(rf"{term.count} \cdot ({term.expression})") for term in formula.terms]
        return Answer(
            formula.trainable,
            "parameters",
            (line(formula.symbolic), *steps, line(tex(formula.trainable))),
            wholes=(Whole(case.shape.total, added=formula.added > 0),),
        )

    from peft_lab.models.catalogue import readers_of_text

    def fits(shape: object) -> bool:
        return not any(p.level == "error" for p in spec.problems(shape, {}))  # type: ignore[arg-type]

    model = next(name for name, entry in readers_of_text().items() if fits(entry.shape))
    return Question(
        id=f"{spec.slug}-defaults",
        topic=spec.slug,
        level="medium",
        kind="numeric",
        question=f"How many parameters does {spec.title} train on {{{{model}}}} at its default settings?",
        answer="{{value}}.",
        listen_for=("the formula first, then the numbers",),
        wrong=("a share remembered from another model",),
        follow_ups=(then("What does LoRA save in training memory, and what not?", to="memory-not-saved"),),
        sources=(str(spec.paper),),
        model=model,
        calculate=defaults,
        fits=fits,
    )
