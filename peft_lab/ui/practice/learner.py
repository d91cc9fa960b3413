"""Who is practising: the learner's name, a new one, and what they take along or bring in."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import streamlit as st

from peft_lab.core import asking, disk
from peft_lab.core.asking import carried
from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.interview.anki import write_deck
from peft_lab.interview.bank import compute_answer, select
from peft_lab.interview.learners import schedule
from peft_lab.interview.learners.schedule import Learners
from peft_lab.interview.learners.transfer import export_profile, import_profile
from peft_lab.interview.mock import LENGTHS, all_roles
from peft_lab.interview.question import LEVELS, Question, topics
from peft_lab.models.catalogue import readers_of_text
from peft_lab.ui import state
from peft_lab.ui.components import form
from peft_lab.ui.components.frame import address_line, errors_boxed
from peft_lab.ui.foreign import plain
from peft_lab.workers import inspector

SCOPE = "practice"
GUESSES = "guesses"  # scope of the predictions that are committed to and not settled yet
FIRST = "Me"  # the learner of a new installation, so that nobody has to register before the first question


def learners() -> Learners:
    """Return the file of the learners."""
    return Learners(clock=schedule.utc_now)


def current_learner(file: Learners) -> str:
    """Return who is practising in this session; a first learner is made where there is none."""
    names = [profile.name for profile in file.profiles()]
    if not names:
        try:
            return file.create(FIRST).name
        except BadInput:  # another tab was faster
            return FIRST
    wanted = str(state.remembered(SCOPE, "profile", FIRST))
    return wanted if wanted in names else names[0]


def take_profile(text: str) -> None:
    """Take the learner that the address names. Raises :class:`UnknownName`."""
    state.remember(SCOPE, "profile", learners().profile(text).name)


def choose(name: str) -> None:
    """Go on as this learner. What is on the table belongs to the one before."""
    state.remember(SCOPE, "profile", name)
    clear_table()
    state.renew(SCOPE)


def clear_table() -> None:
    """Clear the current card and what was typed."""
    for entry in ("card", "typed", "revealed", "since", "skipped", "last", "report"):
        state.scope(SCOPE).pop(entry, None)


def learner_row(file: Learners, pool: list[Question], model: str | None) -> str:
    """Draw the row on top of the page: the learner, a new one, files. Return the learner's name."""
    who, rest = st.columns(2, vertical_alignment="bottom")
    before = current_learner(file)
    names = [profile.name for profile in file.profiles()]
    name: str = who.selectbox(
        "Learner",
        names,
        index=names.index(before),
        key=state.widget_key(SCOPE, "profile"),
        help=f"Every learner has their own cards, due dates and reports, kept on {asking.here()}.",
    )
    address_line(SCOPE, "profile", who)
    if name != before:
        choose(name)
        st.rerun()
    state.remember(SCOPE, "profile", name)
    # Side by side on a phone, too: the question should not be pushed off the screen.
    with rest.container(horizontal=True):
        with st.popover("New learner", icon=":material/person_add:", width="stretch"):
            _create(file)
        with st.popover("Files", icon=":material/swap_vert:", width="stretch"):
            _files(file, name, pool, model)
        with st.popover("Delete", icon=":material/person_remove:", width="stretch"):
            _delete(file, name)
    return name


def _create(file: Learners) -> None:
    with st.form("new-learner", border=False):
        name = st.text_input("Name", max_chars=40)
        if not st.form_submit_button("Create", type="primary", width="stretch"):
            return
    with errors_boxed():
        choose(file.create(name).name)
        st.rerun()


def _delete(file: Learners, name: str) -> None:
    st.markdown(
        f"All of **{plain(name)}**'s cards, due dates, reports, predictions and places on paths are deleted from "
        f"{asking.here()}. An export under *Files* keeps them."
    )
    sure = st.checkbox(f"Delete {plain(name)} for good", key=state.widget_key(SCOPE, "delete", name))
    if not st.button("Delete", type="primary", disabled=not sure, width="stretch", key="delete-learner"):
        return
    file.remove(name)
    state.scope(SCOPE).pop("profile", None)
    clear_table()
    state.forget(GUESSES)
    state.renew(SCOPE)
    st.rerun()


def _files(file: Learners, name: str, pool: list[Question], model: str | None) -> None:
    @carried  # it is called from another thread, when the button is pressed
    def exported() -> str:
        return json.dumps(export_profile(file, name), indent=1, ensure_ascii=False)

    options: Any = {"width": "stretch", "icon": ":material/download:", "on_click": "ignore"}
    st.download_button(
        f"Export {plain(name)} (JSON)", exported, f"peft-lab-{name}.json", "application/json", **options
    )
    st.download_button(
        f"Anki deck, {len(pool)} cards",
        lambda: anki_deck(pool, model),
        "peft-lab.apkg",
        "application/octet-stream",
        disabled=not pool,
        **options,
    )
    st.caption("The deck holds the questions of the topic, level and model chosen below.")
    with st.form("import-learner", border=False, clear_on_submit=True):
        upload = st.file_uploader("Import an exported learner", type="json")
        replace = st.checkbox("Replace a learner of the same name")
        if not st.form_submit_button("Import", width="stretch"):
            return
    with errors_boxed():
        if upload is None:
            raise BadInput("Choose an exported file first.")
        choose(import_profile(file, _parsed(upload.getvalue()), replace=replace))
        st.rerun()


def _parsed(content: bytes) -> Any:
    try:
        return disk.parse_json(content)
    except ValueError as error:
        raise BadInput("This file is not valid JSON.", "file") from error


def anki_deck(pool: list[Question], model: str | None) -> bytes:
    """Return the deck as a file's content. Answers that need torch come from the process that has it."""
    worker = inspector.get_inspector(inspector.Worker.ANSWERS)
    answers = {
        question.id: worker.ask(compute_answer, question.id, None)
        for question in pool
        if question.needs == "torch"
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "peft-lab.apkg"
        write_deck(path, pool, answers, model)
        return path.read_bytes()


# ----------------------------------------
# What is practised: topic, level and model; the same choice on every tab and in the address.


ALL = ""  # every topic, every level, each question's own model
SEED = 1
ANY, USUAL = "any", "usual"  # role and length of an interview


def chosen_filters(name: str) -> str:
    """Return the remembered topic, level or model; empty for all of them."""
    return str(state.remembered(SCOPE, name, ALL))


def question_pool() -> list[Question]:
    """Return the questions of the chosen topic and level, in teaching order."""
    topic, level = chosen_filters("topic"), chosen_filters("level")
    return select((topic,) if topic else (), (level,) if level else ())


def model_for(question: Question) -> str | None:
    """Return the chosen model if the question can be asked about it; ``None`` for the question's own."""
    model = chosen_filters("model")
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
    titles = {name: role.title for name, role in all_roles().items()}
    text = "Which topics come up; choosing a topic below overrides it."
    return _pick(cell, "role", "Role", titles, text, ANY)


def length_filter(cell: Any) -> str:
    titles = {name: f"{name.capitalize()}, {size} questions" for name, size in LENGTHS.items()}
    return _pick(cell, "length", "Length", titles, default=USUAL)


def untold_filters() -> bool:
    """Return whether the address named an unknown topic, level or model; the choices then open to say so."""
    return any(state.address_problem(SCOPE, name) is not None for name in ("topic", "level", "model"))


def topic_title(topic: str) -> str:
    return topics().get(topic, topic)


def _pick(
    cell: Any, name: str, label: str, titles: dict[str, str], text: str | None = None, default: str = ALL
) -> str:
    return form.choose(SCOPE, name, label, titles, default, place=cell, text=text)


def practice_readers() -> dict[str, Any]:
    """Return what takes these choices out of an address."""

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
        "role": among("role", "role", tuple(all_roles())),
        "length": among("length", "length", tuple(LENGTHS)),
        "seed": seed,
    }


def practice_address() -> dict[str, tuple[Any, Any]]:
    """Return what the address says about them."""
    held = {"role": ANY, "length": USUAL}
    own = {name: (state.remembered(SCOPE, name, default), default) for name, default in held.items()}
    return (
        {name: (chosen_filters(name), ALL) for name in ("topic", "level", "model")}
        | own
        | {"seed": (state.remembered(SCOPE, "seed", SEED), SEED)}
    )
