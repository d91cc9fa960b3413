"""The knobs card: model, task and the method's settings, each with help, and with errors at the control."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import streamlit as st

from peft_lab.core.errors import PeftLabError, UnknownName
from peft_lab.core.field import is_read
from peft_lab.core.form import Form
from peft_lab.methods import get_method
from peft_lab.methods.base import Knob, MethodSpec, Problem
from peft_lab.models.catalogue import catalogue, looks_external
from peft_lab.models.shapes import ModelEntry, ModelShape
from peft_lab.runs.spec import RunSpec
from peft_lab.training.tasks import all_tasks, tags
from peft_lab.training.tasks.own import task_title
from peft_lab.ui import state
from peft_lab.ui.components import own_data
from peft_lab.ui.components.form import Controls
from peft_lab.ui.components.frame import address_line
from peft_lab.ui.components.model_choice import entry_of, from_address, model_control
from peft_lab.ui.foreign import plain

OWN_TASK = "own"
#: What a reset leaves: no settings, but where one looks and which run one sees.
KEPT = ("run", "inside-run", "tab", *(f"part.{tab}" for tab in ("Inside", "Experiments")))


@dataclass(frozen=True)
class Choice:
    """The settings on a method page.

    Attributes:
        values: complete values; an invalid one as the learner left it.
        problems: everything found; an error among them means that nothing can be computed.
        task: name of a task, ``own``, or ``None`` if no task fits the model.
    """

    spec: MethodSpec
    entry: ModelEntry
    task: str | None
    values: Mapping[str, Any]
    problems: tuple[Problem, ...]

    @property
    def shape(self) -> ModelShape:
        return self.entry.shape

    @property
    def valid(self) -> bool:
        return all(problem.level != "error" for problem in self.problems)


def default_model(spec: MethodSpec, first: str) -> str:
    """Return the page's model, or else the first live one on which the method's defaults work."""
    candidates = [catalogue()[first], *(entry for entry in catalogue().values() if entry.live)]
    return next((entry.name for entry in candidates if not spec.refusal(entry.shape, {})), first)


def tasks_for(entry: ModelEntry) -> list[str]:
    names = [task.name for task in all_tasks() if entry.kind in task.model_kinds]
    return [*names, OWN_TASK] if names else []


def first_task(entry: ModelEntry) -> str:
    """Return the task that a method's page opens with: on encoders the one about the orders that other models get. Not
    on a model of the learner's own, whose tokenizer may end no text with a token, which tags need."""
    options = tasks_for(entry)
    tagged = tags.TASK.name in options and not looks_external(entry.name)
    return tags.TASK.name if tagged else options[0]


def read_model(text: str) -> None:
    """Remember a URL's model: a catalogue name, a Hugging Face id or a folder."""
    state.remember("shared", "model", from_address(text))


def read_task(text: str) -> None:
    """Remember a URL's task. Raises UnknownName if there is none of that name."""
    known = [*(task.name for task in all_tasks()), OWN_TASK]
    if text not in known:
        raise UnknownName("task", text[:60], known, "task")
    state.remember("shared", "task", text)


def _defaults(spec: MethodSpec, shape: ModelShape, task: str | None) -> dict[str, Any]:
    """Return every knob's default value on a model and a task; the task ``own`` has no text of its own."""
    text = next((known.start_text for known in all_tasks() if known.name == task), "")
    return spec.defaults(shape) | spec.task_values(text)


def knob_controls(spec: MethodSpec, entry: Callable[[], ModelEntry]) -> Controls[Form]:
    """Return the controls of a method's settings, not yet drawn. Module names are kept per architecture, and a text to
    start from per default text, which differs by task.

    Args:
        entry: returns the model, on which defaults depend, as they do on the chosen task.
    """
    lists = {knob.name for knob in spec.knobs if knob.kind == "modules"}
    form: Any = spec.form

    def usual() -> Any:
        return form(**_defaults(spec, entry().shape, _current_task(entry())))

    def keys(name: str) -> tuple[str, ...]:
        if name == spec.text_knob:
            return (getattr(usual(), name),)
        return (entry().shape.model_type,) if name in lists else ()

    return Controls(form, spec.slug, usual, keys)


def readers(spec: MethodSpec, first: str) -> dict[str, Any]:
    """Return readers of the page's URL parameters. The model comes first: defaults depend on it."""

    def entry() -> ModelEntry:
        return _current_model(spec, first)

    def of_list(knob: Knob) -> Callable[[str], Any]:
        return lambda text: _offered(spec, knob, entry().shape, knob.parse(text))

    lists = {knob.name: of_list(knob) for knob in spec.knobs if knob.kind == "modules"}
    return {"model": read_model, "task": read_task, **knob_controls(spec, entry).readers(**lists)}


def knobs_card(spec: MethodSpec, first: str) -> Choice:
    """Draw the card, each control with its problems, and return the settings."""
    _head(spec)
    current = _current_model(spec, first)
    entry = model_control(current, state.widget_key("shared", "model", spec.slug))
    # Only a choice is remembered: a learner who has made none meets each method on the model where it shows best.
    if entry.name != current.name:
        state.remember("shared", "model", entry.name)
    places = {"model": _below(spec, "model")}
    task = _task_control(spec, entry)
    if task is not None:
        places["task"] = _below(spec, "task")
    shape, controls = entry.shape, knob_controls(spec, lambda: entry)
    offered = {knob.name: spec.options(knob, shape) for knob in spec.knobs if knob.kind == "modules"}
    values: dict[str, Any] = {}

    def draw(knob: Knob) -> None:
        more: dict[str, Any] = {"disabled": not is_read(knob, spec.knobs, values)}
        if knob.name in offered:
            more["options"] = {name: name for name in offered[knob.name]}
        values[knob.name] = controls.draw(knob.name, nullcontext(), caption=True, slider=True, **more)

    lists = [knob for knob in spec.knobs if offered.get(knob.name)]
    advanced = [knob for knob in spec.knobs if knob.advanced]
    for knob in spec.knobs:
        if offered.get(knob.name) == ():
            values[knob.name] = ()
        elif not knob.advanced:
            draw(knob)
    if advanced or lists:
        with st.expander("More settings"):
            for knob in lists:
                values[knob.name] += _other_names(spec, knob, shape)
            for knob in advanced:
                draw(knob)
    problems = spec.problems(shape, values)
    for problem in problems:
        colour, icon = ("red", "error") if problem.level == "error" else ("orange", "info")
        place = places.get(problem.field) or controls.at(problem.field)
        place.markdown(f":{colour}[:material/{icon}: {plain(problem.message)}]")
    return Choice(spec, entry, task, values, problems)


def _head(spec: MethodSpec) -> None:
    """Draw the title, with a button for the defaults. It keeps the run shown and the open tab."""
    with st.container(horizontal=True, vertical_alignment="center", key="knobs-head"):
        st.subheader("Settings", anchor="knobs", width="stretch")
        pressed = st.button(
            "Reset",
            key=f"{spec.slug}-reset",
            icon=":material/restart_alt:",
            type="tertiary",
            disabled=bool(state.fixed_on(spec.slug)),
            help="Resets the method's settings to their defaults. The model, the task and the displayed run do not "
            "change.",
        )
    if pressed:
        known = state.scope(spec.slug)
        state.forget(spec.slug)
        state.scope(spec.slug).update({name: known[name] for name in KEPT if known.get(name)})
        st.rerun()


def address(choice: Choice, first: str) -> dict[str, tuple[Any, Any]]:
    """Return the URL parameters of the choice: ``name: (value, default)``."""
    defaults = _defaults(choice.spec, choice.shape, choice.task)
    own = {"model": (choice.entry.name, default_model(choice.spec, first))}
    if choice.task:
        own["task"] = (choice.task, first_task(choice.entry))
    return own | {name: (value, defaults[name]) for name, value in choice.values.items()}


def restore(run: RunSpec) -> None:
    """Set model, task, own data and knobs to those of a run; do nothing if its model's folder is gone."""
    try:
        spec, entry = get_method(run.method), entry_of(run.model)
    except (PeftLabError, TimeoutError):
        return
    state.forget(run.method)
    state.renew("shared")
    state.remember("shared", "model", run.model)
    state.remember("shared", "task", run.task)
    own_data.choose_of(run, entry.kind)
    _remember(spec, entry, run.values)


def set_knobs(spec: MethodSpec, entry: ModelEntry, values: Mapping[str, Any]) -> None:
    """Set knobs as if their controls had been moved. Call it before the page is drawn, in a callback."""
    controls = _remember(spec, entry, values)
    st.session_state.update({controls.key(name): value for name, value in values.items()})


def _remember(spec: MethodSpec, entry: ModelEntry, values: Mapping[str, Any]) -> Controls[Form]:
    controls = knob_controls(spec, lambda: entry)
    for name, value in values.items():
        knob = spec.knob(name)
        controls.remember(name, _offered(spec, knob, entry.shape, value) if knob.kind == "modules" else value)
    return controls


def _current_model(spec: MethodSpec, first: str) -> ModelEntry:
    return entry_of(state.remembered("shared", "model", None) or default_model(spec, first))


def _current_task(entry: ModelEntry) -> str | None:
    options = tasks_for(entry)
    return options[state.one_of("shared", "task", options, first_task(entry))] if options else None


def _task_control(spec: MethodSpec, entry: ModelEntry) -> str | None:
    options = tasks_for(entry)
    if not options:
        return None
    images = {OWN_TASK: "Your own images"} if entry.kind == "vision" else {}
    index = options.index(str(_current_task(entry)))
    task: str = st.selectbox(
        "Task",
        options,
        index=index,
        key=state.widget_key("shared", "task", entry.kind),
        format_func=lambda name: images.get(name) or task_title(name),
        disabled=state.is_fixed("task"),
        help="What the model learns. Encoders classify sentences or tag each word, image models classify images, "
        "causal models write text.",
    )
    if task != options[index]:
        state.remember("shared", "task", task)
    return task


def _below(spec: MethodSpec, name: str) -> Any:
    """Return a place below the last control, with any error of its value in the URL."""
    place = st.container()
    address_line(spec.slug, name, place, default=True)
    return place


def _offered(spec: MethodSpec, knob: Knob, shape: ModelShape, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names that a list's control offers; remember the others for the text field beside it."""
    known = spec.options(knob, shape)
    others = ", ".join(name for name in names if name not in known)
    state.remember(spec.slug, f"{knob.name}-other", others, shape.model_type)
    return tuple(name for name in names if name in known)


def _other_names(spec: MethodSpec, knob: Knob, shape: ModelShape) -> tuple[str, ...]:
    name = f"{knob.name}-other"
    text = st.text_input(
        f"{knob.label}: other names",
        value=state.remembered(spec.slug, name, "", shape.model_type),
        key=state.widget_key(spec.slug, name, shape.model_type),
        placeholder="path endings, separated by commas",
        disabled=state.is_fixed(knob.name),
        help="Endings of module paths, as in PEFT's target_modules.",
    )
    state.remember(spec.slug, name, text, shape.model_type)
    return tuple(part.strip() for part in text.split(",") if part.strip())


# ----------------------------------------
# Options of a list that read alike, told apart: Streamlit knows an option by its words, so that of two equal ones
# the first would be taken for both.


END = 4  # characters of an id, enough among what was made in one second


def apart(titles: Mapping[str, str]) -> dict[str, str]:
    """Return the titles by id, in order; equal ones get the ends of their ids."""
    often = Counter(titles.values())
    return {name: f"{title} · {name[-END:]}" if often[title] > 1 else title for name, title in titles.items()}
