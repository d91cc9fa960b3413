"""Read the bank: every question by id, from ``interview/content/questions``, and the chains that they make.

A file's name begins with its topic: ``lora.yaml``, ``lora.rates.yaml``. Whatever concerns a question stands in its
entry: a calculation as formulas (:mod:`peft_lab.interview.formulas`) or by its name in ``interview/calculations.py``;
the models it can be asked about by a predicate of :mod:`peft_lab.interview.question`. Texts may contain figures of
:data:`FIGURES`, as ``{{right: lora-rank32}}``.

A method of the registry without questions of its own gets one question made for it, so that a new method is asked about
from its first day.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType

from peft_lab.core.content import Citation, ContentError, Converters, Through, by_name, mistake, read_entries
from peft_lab.core.errors import BadInput, PeftLabError, UnknownName, named
from peft_lab.core.units import Source
from peft_lab.engine.published import reserved, right, slower
from peft_lab.interview import calculations, claims, question
from peft_lab.interview.computed import NO_GQA, Answer, Case, Given, Whole, line, nf4_values, plain, tex
from peft_lab.interview.formulas import Formulas
from peft_lab.interview.question import (
    CONTENT,
    LEVELS,
    Calculation,
    FollowUp,
    Opens,
    Predicate,
    Question,
    room_for,
    topics,
)
from peft_lab.methods import all_methods, get_method
from peft_lab.methods.base import MethodSpec
from peft_lab.models.catalogue import get_model, readers_of_text
from peft_lab.models.shapes import ModelShape

FOLDER = CONTENT / "questions"
LONGEST = 5  # questions of a chain
_FIGURE = re.compile(r"\{\{(\w+):\s*([^{}]*)\}\}")
_CALL = re.compile(r"(\w+)\((\d+)\)")

# ----------------------------------------
# What the files name: figures, calculations, predicates, states of the Lab.


def _merged(figure: str) -> str:
    """Return a figure of the fact check on merging into a 4-bit base: ``lost``, or ``score fresh``."""
    found = claims.kept_result("qlora-merge")
    assert found is not None, "found.json has every slow check"
    return f"{found.values[figure]:{'.1f' if figure.startswith('score') else '.2g'}}"


#: Figures that a text takes from elsewhere, filled in when the file is read.
FIGURES: Mapping[str, Callable[..., str]] = {
    "right": right,
    "slower": slower,
    "reserved": reserved,
    "merged": _merged,
    "method": lambda slug: get_method(slug).title,
    "model": lambda name: get_model(name).title,
    "per_rank": lambda name: plain(Case(get_model(name).shape, {}).lora(1)),
    "codes": lambda _: ", ".join(f"{value:.4f}" for value in nf4_values()),
    "slip": {"narrow_kv": NO_GQA}.__getitem__,
}


def _with_figures(text: str) -> str:
    def figure(place: re.Match[str]) -> str:
        write = by_name(FIGURES, "figure")(place[1])
        try:
            return write(*re.split(r",\s*", place[2]))
        except (KeyError, TypeError, PeftLabError):
            raise ValueError(f"there is no figure '{place[0]}'") from None

    return _FIGURE.sub(figure, text) if "{{" in text else text


def _functions(module: ModuleType, names: tuple[str, ...], returns: str) -> dict[str, FunctionType]:
    """Return the functions of a module by name that take and return just this."""
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, FunctionType) and value.__module__ == module.__name__
        if tuple(value.__annotations__) == names and value.__annotations__["return"] == returns
    }


#: By name: the calculations, and the kinds of models that a question can be asked about.
CALCULATIONS: dict[str, Calculation] = {**_functions(calculations, ("case", "return"), "Answer")}
PREDICATES: dict[str, Predicate] = {**_functions(question, ("shape", "return"), "bool"), **question.FITS}


def _calculation(stated: str | Formulas) -> Calculation:
    return stated if isinstance(stated, Formulas) else by_name(CALCULATIONS, "calculation")(stated)


def _predicate(name: str) -> Predicate:
    called = _CALL.fullmatch(str(name))
    if called and called[1] == room_for.__name__:
        return room_for(int(called[2]))
    return by_name(PREDICATES, "predicate")(name)


# ----------------------------------------
# The files.


def read_questions(folder: Path = FOLDER) -> dict[str, tuple[Question, Path]]:
    """Return the questions of a folder by id, each with its file. Raises ContentError: a mistake in a file, with its
    line."""
    converters: Converters = {
        str: _with_figures,
        Calculation: Through(str | Formulas, _calculation),
        Predicate: _predicate,
        Opens: question.read_opens,
        Source: Source,
    }
    bank: dict[str, tuple[Question, Path]] = {}
    for path in sorted(folder.glob("*.yaml"), key=lambda path: path.stem.split(".")):
        topic = path.stem.split(".")[0]
        if topic not in topics():
            raise mistake(path, f"its name has to begin with a topic, such as {next(iter(topics()))}.yaml.")
        for entry in read_entries(path, Question, converters, topic=topic):
            if entry.id in bank:
                other = bank[entry.id][1]
                place = [f"id: {entry.id}"] * (2 if other == path else 1)
                raise mistake(path, f"there is a question '{entry.id}' in {other.name} already.", *place)
            bank[entry.id] = entry, path
    for entry, path in bank.values():
        for follow_up in entry.follow_ups:
            name = follow_up.leads_to
            if name and (name not in bank or name == entry.id):
                sentence = f"the follow-up leads to '{name}', which is no other question of the bank."
                raise mistake(path, sentence, f"id: {entry.id}", f"leads to: {name}")
    return bank


def mistakes(folder: Path = FOLDER) -> list[ContentError]:
    """Return what shows only when the questions are asked: placeholders that nothing fills, models that do not fit."""
    found = []
    for entry, path in read_questions(folder).values():
        try:
            answer = entry.compute() if entry.needs == "shape" else None
            entry.ask()
            entry.choices()
            if answer or not entry.computed:
                entry.explain(answer)
            for follow_up in entry.follow_ups:
                entry.explain_follow_up(follow_up)
            if entry.doubt:
                entry.explain_doubt(entry.doubt)
        except KeyError as error:
            name = error.args[0]
            words = [f"id: {entry.id}", f"{{{{{name}}}}}"]
            found.append(mistake(path, f"'{entry.id}': nothing states '{name}'.", *words))
        except PeftLabError as error:
            found.append(mistake(path, f"'{entry.id}': {error}", f"id: {entry.id}"))
    return found


@cache
def all_questions() -> dict[str, Question]:
    """Return every question by id, topics in teaching order, easy ones first within a topic."""
    found = [entry for entry, _ in read_questions().values()]
    order, asked_about = list(topics()), {entry.topic for entry in found}
    found += [make_question(spec) for name, spec in all_methods().items() if name in {*order} - asked_about]
    found.sort(key=lambda entry: (order.index(entry.topic), LEVELS.index(entry.level)))
    return {entry.id: entry for entry in found}


def get_question(name: str) -> Question:
    """Return a question by id. Raises :class:`UnknownName` with the nearest one."""
    return named("question", name, all_questions())


def select(topic: Iterable[str] = (), level: Iterable[str] = (), model: str | None = None) -> list[Question]:
    """Return the questions of these topics and levels, all if empty; with ``model``, those that fit it. Raises
    UnknownName: a topic or level that there is none of."""
    wanted = {"topic": tuple(topic), "level": tuple(level)}
    for what, known in (("topic", topics()), ("level", LEVELS)):
        for name in wanted[what]:
            if name not in known:
                raise UnknownName(what, name, known, what)
    return [
        entry
        for entry in all_questions().values()
        if (not wanted["topic"] or entry.topic in wanted["topic"])
        and (not wanted["level"] or entry.level in wanted["level"])
        and (model is None or entry.accepts(model))
    ]


def compute_answer(name: str, model: str | None = None, given: dict[str, Given] | None = None) -> Answer:
    """Return an answer by id, for the inspector process: ``inspector.ask(compute_answer, "quant-nf4-error")``. Raises
    BadInput: a question with a written answer, or a model that it does not fit."""
    answer = get_question(name).compute(model, **(given or {}))
    if answer is None:
        raise BadInput(f"The answer to '{name}' is a text, so nothing can be computed.")
    return answer


def make_question(spec: MethodSpec) -> Question:
    """Return the count of a method at its defaults, for a method that has no questions of its own."""

    def defaults(case: Case) -> Answer:
        formula = spec.formula(case.shape, spec.require(case.shape, {}))
        steps = [line(rf"{term.count} \cdot ({term.expression})") for term in formula.terms]
        return Answer(
            formula.trainable,
            "parameters",
            (line(formula.symbolic), *steps, line(tex(formula.trainable))),
            wholes=(Whole(case.shape.total, added=formula.added > 0),),
        )

    def fits(shape: ModelShape) -> bool:
        return not any(problem.level == "error" for problem in spec.problems(shape, {}))

    model = next(name for name, entry in readers_of_text().items() if fits(entry.shape))
    return Question(
        id=f"{spec.slug}-defaults",
        topic=spec.slug,
        level="medium",
        kind="numeric",
        question=f"With default settings, how many parameters does {spec.title} train on {{{{model}}}}?",
        answer="{{value}}.",
        listen_for=("the formula first, then the numbers",),
        wrong=("a share remembered from another model",),
        follow_ups=(
            FollowUp(
                question="Which parts of training memory does LoRA save, and which does it not save?",
                leads_to="memory-not-saved",
            ),
        ),
        sources=(Citation(str(spec.paper)),),
        model=model,
        calculate=defaults,
        fits=fits,
    )


# ----------------------------------------
# Chains: a question, its follow-ups, and so on. Where one leads to another question, that one's come next.


@dataclass(frozen=True)
class Link:
    """One question in a chain. ``after``: the question whose case it uses; ``asks``: the bank's question that
    it is or leads to, ``None`` for a follow-up with its own answer."""

    after: Question
    follow_up: FollowUp | None
    asks: Question | None


def chain(first: Question) -> tuple[Link, ...]:
    """Return the question and up to four that follow, in the order asked; no question of the bank occurs twice."""
    links = [Link(first, None, first)]
    met = {first.id}
    current: Question | None = first
    while current is not None and len(links) < LONGEST:
        following: Question | None = None
        for follow_up in current.follow_ups:
            if len(links) == LONGEST or follow_up.leads_to in met:
                continue
            following = get_question(follow_up.leads_to) if follow_up.leads_to else None
            if following is not None:
                met.add(following.id)
            links.append(Link(current, follow_up, following))
        current = following
    return tuple(links)
