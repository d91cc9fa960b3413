"""The learner who practises, the choice of questions, and the export and import of both."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import streamlit as st

from peft_lab.core import asking, disk
from peft_lab.core.asking import carried
from peft_lab.core.errors import BadInput
from peft_lab.core.form import Form, choice, text, whole, yes_no
from peft_lab.interview.bank import select
from peft_lab.interview.learners import schedule
from peft_lab.interview.learners.schedule import Learners, export_profile, import_profile
from peft_lab.interview.mock import LENGTHS, all_roles, topic_titles
from peft_lab.interview.question import LEVELS, Question, topics
from peft_lab.interview.write.progress import FIRST
from peft_lab.models.catalogue import readers_of_text
from peft_lab.ui import state
from peft_lab.ui.components.form import Controls
from peft_lab.ui.components.form import choose as choose_one
from peft_lab.ui.components.frame import errors_boxed, tabs
from peft_lab.ui.foreign import plain

SCOPE = "practice"
GUESSES = "guesses"  # scope of the predictions that are committed to and not settled yet
Value = TypeVar("Value")


def learners() -> Learners:
    """Return the store of learners."""
    return Learners(clock=schedule.utc_now)


def current_learner() -> tuple[Learners, str]:
    """Return the store of learners and the session's learner; create a first one if there is none."""
    file = learners()
    names = file.names()
    if not names:
        try:
            return file, file.create(FIRST)
        except BadInput:  # another tab was faster
            return file, FIRST
    wanted = str(state.remembered(SCOPE, "profile", FIRST))
    return file, wanted if wanted in names else names[0]


def choose(name: str) -> None:
    """Switch to this learner, and clear the previous one's table."""
    state.remember(SCOPE, "profile", name)
    clear_table()
    state.renew(SCOPE)


def clear_table() -> None:
    """Clear the current card and the typed answer."""
    for entry in ("card", "typed", "revealed", "since", "skipped", "last", "report"):
        state.scope(SCOPE).pop(entry, None)


def learner_row() -> tuple[Learners, str]:
    """Draw the row at the top of the page: the learner, a new one, files. Return the store and the learner's name."""
    who, rest = st.columns(2, vertical_alignment="bottom")
    form, (file, before) = controls(), current_learner()
    names = file.names()
    form.remember("profile", before)
    name: str = form.draw(
        "profile", who, options={name: name for name in names},
        help=f"Each learner has separate cards, due dates and reports, stored on {asking.here()}.",
    )  # fmt: skip
    if name != before:
        choose(name)
        st.rerun()
    state.remember(SCOPE, "profile", name)
    # Side by side on a phone, too: the question should not be pushed off the screen.
    with rest.container(horizontal=True):
        with st.popover("New learner", icon=":material/person_add:", width="stretch"):
            _create(file)
        with st.popover("Files", icon=":material/swap_vert:", width="stretch"):
            _files(file, name)
        with st.popover("Delete", icon=":material/person_remove:", width="stretch"):
            _delete(file, name)
    return file, name


def _create(file: Learners) -> None:
    with st.form("new-learner", border=False):
        name = st.text_input("Name", max_chars=40)
        if not st.form_submit_button("Create", type="primary", width="stretch"):
            return
    with errors_boxed():
        choose(file.create(name))
        st.rerun()


def _delete(file: Learners, name: str) -> None:
    st.markdown(
        f"This deletes all of **{plain(name)}**'s cards, due dates, reports, predictions and tour progress from "
        f"{asking.here()}. To keep them, export them under *Files* first."
    )
    sure = st.checkbox(f"Permanently delete {plain(name)}", key=state.widget_key(SCOPE, "delete", name))
    if not st.button("Delete", type="primary", disabled=not sure, width="stretch", key="delete-learner"):
        return
    file.remove(name)
    state.scope(SCOPE).pop("profile", None)
    clear_table()
    state.forget(GUESSES)
    state.renew(SCOPE)
    st.rerun()


def _files(file: Learners, name: str) -> None:
    @carried  # it is called from another thread, when the button is pressed
    def exported() -> str:
        return json.dumps(export_profile(file, name), indent=1, ensure_ascii=False)

    st.download_button(
        f"Export {plain(name)} (JSON)", exported, f"peft-lab-{name}.json", "application/json", width="stretch",
        icon=":material/download:", on_click="ignore",
    )  # fmt: skip
    with st.form("import-learner", border=False, clear_on_submit=True):
        upload = st.file_uploader("Import an exported learner", type="json")
        replace = st.checkbox("Replace an existing learner of this name")
        if not st.form_submit_button("Import", width="stretch"):
            return
    with errors_boxed():
        if upload is None:
            raise BadInput("No file is chosen. First choose a file with an exported learner.")
        try:
            document = disk.parse_json(upload.getvalue())
        except ValueError as error:
            sentence = "This file is not valid JSON. Choose a file that PEFT Lab exported."
            raise BadInput(sentence, "file") from error
        choose(import_profile(file, document, replace=replace))
        st.rerun()


# ----------------------------------------
# What is practised: topic, level and model; the same choice on every tab and in the address.


ALL = ""  # every topic, every level, each question's own model
ANY, USUAL = "any", "usual"  # role and length of an interview
TABS = {"cards": "Flash cards", "interview": "Mock interview"}


@dataclass(frozen=True)
class PracticeForm(Form):
    """The settings of the page: its questions and its learner."""

    topic: str = choice(ALL, "Topic", "", lambda: {ALL: "All topics", **topics()})
    level: str = choice(ALL, "Level", "", {ALL: "All levels"} | {name: name.capitalize() for name in LEVELS})
    model: str = choice(
        ALL, "Model",
        "If a question has a computed answer and applies to this model, its answer is computed for this model.",
        lambda: {ALL: "Each question's own model"} | {name: one.title for name, one in readers_of_text().items()},
    )  # fmt: skip
    role: str = choice(
        ANY, "Role", "Decides which topics come up, unless you choose a topic.",
        lambda: {name: role.title for name, role in all_roles().items()},
    )  # fmt: skip
    length: str = choice(
        USUAL, "Length", "", {name: f"{name.capitalize()}, {size} questions" for name, size in LENGTHS.items()}
    )  # fmt: skip
    seed: int = whole(
        1, "Seed",
        "The same seed gives the same questions to everyone who has seen none of them. Send this page's address to "
        "a class, or change the seed to get other questions.",
        least=0, reader=lambda text: state.whole_number(text, "seed"),
    )  # fmt: skip
    write: bool = yes_no(
        True,
        "Ends with an exercise",
        "The last question is a program to write; tests grade it. This question has its own time limit.",
    )
    profile: str = text(
        FIRST, "Learner", "Each learner has separate cards, due dates and reports.",
        reader=lambda text: learners().known(text),
    )  # fmt: skip
    tab: str = choice("cards", "Tab", "", TABS)


def controls() -> Controls[PracticeForm]:
    """Return the page's controls, not yet drawn."""
    return Controls(PracticeForm, SCOPE)


def question_pool() -> list[Question]:
    """Return the questions of the chosen topic and level, in teaching order."""
    chosen = controls().form()
    return select((chosen.topic,) if chosen.topic else (), (chosen.level,) if chosen.level else ())


def model_for(question: Question) -> str | None:
    """Return the chosen model if the question can be asked about it; ``None`` for the question's own."""
    model = str(controls().value("model"))
    return model if model and question.accepts(model) else None


def misread() -> bool:
    """Return whether the URL named an unknown topic, level or model; the form then opens to report it."""
    return any(state.address_problem(SCOPE, name) is not None for name in ("topic", "level", "model"))


def topic_title(topic: str) -> str:
    """Return a topic's title, or its name if it has none."""
    return topic_titles().get(topic, topic)


def form_tabs(
    form: Controls[Any], titles: Mapping[str, str], sections: Mapping[str, Callable[[], None]]
) -> None:
    """Draw the tabs of a form's field ``tab``, and remember the open one."""
    drawn = {titles[name]: draw for name, draw in sections.items()}
    title = tabs(form.scope, drawn, titles[form.value("tab")])
    form.remember("tab", next(name for name in titles if titles[name] == title))


def with_next(
    scope: str, name: str, label: str, titles: Mapping[Value, str], default: Value, afresh: Sequence[str] = ()
) -> Value:
    """Draw a remembered choice with a button for the next one; return the choice."""
    pick, following = st.columns([5, 1], vertical_alignment="bottom")
    chosen = choose_one(scope, name, label, titles, default, place=pick, afresh=afresh)
    if following.button("Next", icon=":material/arrow_forward:", width="stretch", key=f"{scope}-next"):
        values = list(titles)
        state.remember(scope, name, values[(values.index(chosen) + 1) % len(values)])
        state.renew(scope)
        st.rerun()
    return chosen
