"""What is practised: topic, level and model; the same choice on every tab and in the address."""

from __future__ import annotations

from typing import Any

from peft_lab.errors import BadInput, UnknownName
from peft_lab.models.catalogue import readers_of_text
from peft_lab.quiz.bank import select
from peft_lab.quiz.question import LEVELS, Question, topics
from peft_lab.quiz.roles import LENGTHS, ROLES
from peft_lab.ui import state
from peft_lab.ui.foreign import plain
from peft_lab.ui.practice.learner import SCOPE

ALL = ""  # every topic, every level, each question's own model
SEED = 1
ANY, USUAL = "any", "usual"  # role and length of an interview


def chosen(name: str) -> str:
    """The remembered topic, level or model; empty for all of them."""
    return str(state.remembered(SCOPE, name, ALL))


def pool() -> list[Question]:
    """The questions of the chosen topic and level, in teaching order."""
    topic, level = chosen("topic"), chosen("level")
    return select((topic,) if topic else (), (level,) if level else ())


def model_for(question: Question) -> str | None:
    """The chosen model if the question can be asked about it; ``None`` for the question's own."""
    model = chosen("model")
    return model if model and question.accepts(model) else None


def topic_filter(cell: Any) -> str:
    return _pick(cell, "topic", "Topic", {ALL: "All topics"} | {name: topic_title(name) for name in topics()})


def level_filter(cell: Any) -> str:
    return _pick(cell, "level", "Level", {ALL: "All levels"} | {name: name.capitalize() for name in LEVELS})


def model_filter(cell: Any) -> str:
    titles = {ALL: "Each question's own model"} | {
        name: entry.title for name, entry in readers_of_text().items()
    }
    return _pick(
        cell,
        "model",
        "Ask about",
        titles,
        "Questions with a computed answer are asked and answered for this model where that is possible.",
    )


def role_filter(cell: Any) -> str:
    titles = {name: role.title for name, role in ROLES.items()}
    text = "Which topics come up; choosing a topic below overrides it."
    return _pick(cell, "role", "Role", titles, text, ANY)


def length_filter(cell: Any) -> str:
    titles = {name: f"{name.capitalize()}, {size} questions" for name, size in LENGTHS.items()}
    return _pick(cell, "length", "Length", titles, default=USUAL)


def untold() -> bool:
    """Whether the address named a topic, level or model that there is none of: the choices are unfolded to tell it."""
    return any(state.address_problem(SCOPE, name) is not None for name in ("topic", "level", "model"))


def topic_title(topic: str) -> str:
    return topics().get(topic, topic)


def _pick(
    cell: Any, name: str, label: str, titles: dict[str, str], text: str | None = None, default: str = ALL
) -> str:
    options = list(titles)
    index = state.one_of(SCOPE, name, options, default)
    key = state.widget_key(SCOPE, name)
    value: str = cell.selectbox(
        label,
        options,
        index,
        key=key,
        format_func=titles.__getitem__,
        help=text,
        disabled=state.is_fixed(name),
    )
    problem = state.address_problem(SCOPE, name)
    if problem:
        cell.markdown(f":red[:material/link_off: {plain(problem)}]")
    state.remember(SCOPE, name, value)
    return value


def readers() -> dict[str, Any]:
    """What takes these choices out of an address."""

    def among(name: str, what: str, known: Any) -> Any:
        def read(text: str) -> None:
            if text not in known:
                raise UnknownName(what, text, known, name)
            state.remember(SCOPE, name, text)

        return read

    def seed(text: str) -> None:
        value = state.whole_number(text, "seed")
        if value < 0:
            raise BadInput(f"The seed must be 0 or more; {value:,} is not.", "seed")
        state.remember(SCOPE, "seed", value)

    return {
        "topic": among("topic", "topic", topics()),
        "level": among("level", "level", LEVELS),
        "model": among("model", "model", tuple(readers_of_text())),
        "role": among("role", "role", tuple(ROLES)),
        "length": among("length", "length", tuple(LENGTHS)),
        "seed": seed,
    }


def address() -> dict[str, tuple[Any, Any]]:
    """What the address says about them."""
    held = {"role": ANY, "length": USUAL}
    own = {name: (state.remembered(SCOPE, name, default), default) for name, default in held.items()}
    return (
        {name: (chosen(name), ALL) for name in ("topic", "level", "model")}
        | own
        | {"seed": (state.remembered(SCOPE, "seed", SEED), SEED)}
    )
