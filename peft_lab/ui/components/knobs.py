"""The knobs card: model, task and the method's own settings, each with its help and what is wrong, at the control."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from peft_lab.ask.field import is_read
from peft_lab.core.errors import PeftLabError, UnknownName
from peft_lab.methods import get_method
from peft_lab.methods.base import Knob, MethodSpec, Problem
from peft_lab.models.catalogue import ModelEntry, catalogue
from peft_lab.models.shapes import ModelShape
from peft_lab.runs.spec import RunSpec
from peft_lab.training.tasks import all_tasks
from peft_lab.training.tasks.titles import task_title
from peft_lab.ui import state
from peft_lab.ui.components import own_data
from peft_lab.ui.components.model_choice import entry_of, from_address, model_control
from peft_lab.ui.foreign import plain

OWN_TASK = "own"
#: What a reset leaves: no settings, but where one looks and which run one sees.
KEPT = ("run", "inside-run", "tab")


@dataclass(frozen=True)
class Choice:
    """What is set on a method page.

    Attributes:
        values: complete values; where one is invalid, as the learner left it.
        problems: everything found; an error among them means that nothing can be computed.
        task: name of a task, ``own``, or ``None`` where no task fits the model.
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
    """The page's own model, or the first live one on which the method's defaults work."""
    live = [entry for entry in catalogue().values() if entry.live]
    candidates = [catalogue()[first], *live]
    for entry in candidates:
        if all(problem.level != "error" for problem in spec.problems(entry.shape, {})):
            return entry.name
    return first


def tasks_for(entry: ModelEntry) -> list[str]:
    names = [task.name for task in all_tasks() if entry.kind in task.model_kinds]
    return [*names, OWN_TASK] if names else []


def read_model(text: str) -> None:
    """An address's model: a catalogue name, a Hugging Face id or a folder."""
    state.remember("shared", "model", from_address(text))


def read_task(text: str) -> None:
    """An address's task. Raises UnknownName where there is none of that name."""
    known = [*(task.name for task in all_tasks()), OWN_TASK]
    if text not in known:
        raise UnknownName("task", text[:60], known, "task")
    state.remember("shared", "task", text)


def readers(spec: MethodSpec, first: str) -> dict[str, Any]:
    """What takes each of this page's parameters out of the address. The model comes first: defaults depend on it."""

    def take(knob: Knob) -> Any:
        def read(text: str) -> None:
            value = knob.parse(text)
            variants = _variants(knob, _current_model(spec, first).shape)
            if knob.kind == "modules":
                _remember_modules(spec, knob, _current_model(spec, first).shape, value)
            else:
                state.remember(spec.slug, knob.name, value, *variants)

        return read

    table: dict[str, Any] = {"model": read_model, "task": read_task}
    return table | {knob.name: take(knob) for knob in spec.knobs}


def knobs_card(spec: MethodSpec, first: str) -> Choice:
    """Draw the card and return what is set."""
    slots: dict[str, Any] = {}
    _head(spec)
    entry = _model_control(spec, first, slots)
    task = _task_control(entry, slots)
    defaults = spec.defaults(entry.shape)
    values: dict[str, Any] = {}
    for knob in (knob for knob in spec.knobs if not knob.advanced):
        if knob.kind == "modules" and not spec.options(knob, entry.shape):
            values[knob.name] = ()
            continue
        values[knob.name] = _control(spec, knob, defaults[knob.name], entry.shape, values)
        st.caption(plain(knob.brief(values[knob.name])))
        slots[knob.name] = st.empty()
    advanced = [knob for knob in spec.knobs if knob.advanced]
    lists = [knob for knob in spec.knobs if knob.kind == "modules" and knob.name in slots]
    if advanced or lists:
        with st.expander("More settings"):
            for knob in lists:
                values[knob.name] += _other_names(spec, knob, entry.shape)
            for knob in advanced:
                values[knob.name] = _control(spec, knob, defaults[knob.name], entry.shape, values)
                st.caption(plain(knob.brief(values[knob.name])))
                slots[knob.name] = st.empty()
    problems = spec.problems(entry.shape, values)
    _show_problems(spec, slots, problems)
    return Choice(spec, entry, task, values, problems)


def _head(spec: MethodSpec) -> None:
    """The card's title, with the way back to the defaults. The run that is shown and the open tab stay."""
    with st.container(horizontal=True, vertical_alignment="center", key="knobs-head"):
        st.markdown("### Knobs", width="stretch")
        pressed = st.button(
            "Reset",
            key=f"{spec.slug}-reset",
            icon=":material/restart_alt:",
            type="tertiary",
            disabled=bool(state.fixed_on(spec.slug)),
            help="Back to the method's defaults. The model, the task and the run that is shown stay.",
        )
    if pressed:
        kept = {
            name: state.remembered(spec.slug, name, "")
            for name in KEPT
            if state.remembered(spec.slug, name, "")
        }
        state.forget(spec.slug)
        state.scope(spec.slug).update(kept)
        st.rerun()


def address(choice: Choice, first: str) -> dict[str, tuple[Any, Any]]:
    """What the address has to say about the choice: ``name: (value, default)``."""
    defaults = choice.spec.defaults(choice.shape)
    tasks = tasks_for(choice.entry)
    own = {"model": (choice.entry.name, default_model(choice.spec, first))}
    if choice.task:
        own["task"] = (choice.task, tasks[0])
    return own | {name: (value, defaults[name]) for name, value in choice.values.items()}


def restore(run: RunSpec) -> None:
    """Set model, task, data of one's own and knobs as a run had them; nothing where its model's folder is gone."""
    try:
        spec, entry = get_method(run.method), entry_of(run.model)
    except (PeftLabError, TimeoutError):
        return
    state.forget(run.method)
    state.renew("shared")
    state.remember("shared", "model", run.model)
    state.remember("shared", "task", run.task)
    own_data.choose_of(run, entry.kind)
    for name, value in run.values.items():
        knob = spec.knob(name)
        if knob.kind == "modules":
            _remember_modules(spec, knob, entry.shape, value)
        else:
            state.remember(run.method, name, value)


def set_knobs(spec: MethodSpec, shape: ModelShape, values: Mapping[str, Any]) -> None:
    """Set knobs as if their controls had been moved; to be called before the page is drawn, from a callback."""
    for name, value in values.items():
        knob = spec.knob(name)
        if knob.kind == "modules":
            _remember_modules(spec, knob, shape, value)
        else:
            state.remember(spec.slug, name, value)
        st.session_state[state.widget_key(spec.slug, name, *_variants(knob, shape))] = value


def _current_model(spec: MethodSpec, first: str) -> ModelEntry:
    return entry_of(state.remembered("shared", "model", None) or default_model(spec, first))


def _model_control(spec: MethodSpec, first: str, slots: dict[str, Any]) -> ModelEntry:
    current = _current_model(spec, first)
    entry = model_control(current, state.widget_key("shared", "model", spec.slug))
    # Only a choice is remembered: a learner who has made none meets each method on the model where it shows best.
    if entry.name != current.name:
        state.remember("shared", "model", entry.name)
    slots["model"] = st.empty()
    return entry


def _task_control(entry: ModelEntry, slots: dict[str, Any]) -> str | None:
    options = tasks_for(entry)
    if not options:
        return None
    images = {OWN_TASK: "Your own images"} if entry.kind == "vision" else {}
    index = state.one_of("shared", "task", options, options[0])
    task: str = st.selectbox(
        "Task",
        options,
        index=index,
        key=state.widget_key("shared", "task", entry.kind),
        format_func=lambda name: images.get(name) or task_title(name),
        disabled=state.is_fixed("task"),
        help="What the mini fine-tune teaches. Encoders classify sentences, models of images classify those, causal "
        "models write text.",
    )
    if task != options[index]:
        state.remember("shared", "task", task)
    slots["task"] = st.empty()
    return task


def _variants(knob: Knob, shape: ModelShape) -> tuple[str, ...]:
    """Module names differ between architectures, so choices of them are remembered for each."""
    return (shape.model_type,) if knob.kind == "modules" else ()


def _remember_modules(spec: MethodSpec, knob: Knob, shape: ModelShape, names: Sequence[str]) -> None:
    known = module_options(spec, knob, shape)
    state.remember(spec.slug, knob.name, [name for name in names if name in known], shape.model_type)
    others = ", ".join(name for name in names if name not in known)
    state.remember(spec.slug, f"{knob.name}-other", others, shape.model_type)


def module_options(spec: MethodSpec, knob: Knob, shape: ModelShape) -> list[str]:
    return list(spec.options(knob, shape))


def _control(spec: MethodSpec, knob: Knob, default: Any, shape: ModelShape, above: Mapping[str, Any]) -> Any:
    """One knob's control; it rests where the knobs ``above`` say that it is not read."""
    variants = _variants(knob, shape)
    start = state.remembered(spec.slug, knob.name, default, *variants)
    rests = not is_read(knob, spec.knobs, above)
    value = _widget(spec, knob, state.widget_key(spec.slug, knob.name, *variants), start, shape, rests)
    state.remember(spec.slug, knob.name, value, *variants)
    return tuple(value) if knob.kind == "modules" else value


def _widget(spec: MethodSpec, knob: Knob, key: str, start: Any, shape: ModelShape, rests: bool) -> Any:
    label = knob.label
    shut = rests or state.is_fixed(knob.name)
    rest: dict[str, Any] = {"key": key, "help": knob.full_help, "disabled": shut}
    if knob.kind == "modules":
        known = module_options(spec, knob, shape)
        chosen = [name for name in start if name in known]
        return st.pills(label, known, selection_mode="multi", default=chosen, **rest)
    if knob.kind == "bool":
        return st.toggle(label, value=start, **rest)
    if knob.kind == "choice":
        if sum(map(len, knob.choices)) <= 24:
            return st.segmented_control(
                label, knob.choices, default=start, **rest, required=True, width="stretch"
            )
        return st.selectbox(label, knob.choices, index=knob.choices.index(start), **rest)
    if knob.kind == "text":
        # A sentence does not fit a line of the column.
        sentence = " " in str(spec.defaults(shape)[knob.name])
        return (st.text_area if sentence else st.text_input)(label, value=start, **rest)
    if knob.stops:
        return st.select_slider(label, sorted({*knob.stops, start}), value=start, **rest)
    if knob.kind == "int":
        return st.slider(label, int(knob.min or 0), int(knob.max or 100), value=start, step=1, **rest)
    low, high = float(knob.min or 0.0), float(knob.max or 1.0)
    return st.slider(label, low, high, value=float(start), step=0.05, **rest)


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


def _show_problems(spec: MethodSpec, slots: Mapping[str, Any], problems: Sequence[Problem]) -> None:
    """Each message under its control; the first error of the address is told there as well."""
    for field, slot in slots.items():
        lines = [problem_line(problem) for problem in problems if problem.field == field]
        from_address = state.address_problem(spec.slug, field)
        if from_address:
            lines.append(
                f":red[:material/link_off: From the address: {plain(from_address)} The default is used.]"
            )
        if lines:
            slot.markdown("  \n".join(lines))
    placed = set(slots)
    for problem in problems:
        if problem.field not in placed:
            st.markdown(problem_line(problem))


def problem_line(problem: Problem) -> str:
    """A problem as one coloured line."""
    if problem.level == "error":
        return f":red[:material/error: {plain(problem.message)}]"
    return f":orange[:material/info: {plain(problem.message)}]"


# ----------------------------------------
# Options of a list that read alike, told apart: Streamlit knows an option by its words, so that of two equal ones
# the first would be taken for both.


END = 4  # characters of an id, enough among what was made in one second


def apart(titles: Mapping[str, str]) -> dict[str, str]:
    """The titles by id, in their order; those that several ids have end with what their ids end with."""
    often = Counter(titles.values())
    return {
        identity: f"{title} · {identity[-END:]}" if often[title] > 1 else title
        for identity, title in titles.items()
    }
