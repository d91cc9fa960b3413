"""What to compare: model, task, methods, steps and seeds, in the form and in the page's address."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from peft_lab.core.errors import BadInput, PeftLabError, UnknownName
from peft_lab.methods import all_methods, get_method
from peft_lab.models.catalogue import ModelEntry, catalogue
from peft_lab.runs.spec import BATCH, STEPS, usual_eval_rows
from peft_lab.studies.compare.plan import MOST_SEEDS, SEEDS, ComparisonPlan, ComparisonRequest, make_plan
from peft_lab.studies.compare.store import Comparison
from peft_lab.training.tasks import all_tasks, get_task
from peft_lab.ui import state
from peft_lab.ui.foreign import plain

SCOPE = "compare"
# label, help, with a word for what a task's rows are; the address names them so too
NUMBERS = {
    "steps": ("Steps", "Optimizer steps of each run."),
    "seeds": (
        "Seeds",
        "Runs per method, each with a seed of its own, counting from zero. With a single seed the spread is unknown.",
    ),
    "batch": ("Batch size", "{Each}s in each optimizer step, the same for all methods."),
    "rows": (
        "Held-out {each}s",
        "Held-out {each}s on which each run is scored. More {each}s make the score more reliable and take longer.",
    ),
}
_FIELD = {"eval_rows": "rows"}  # where a setting of the run is set


def live_models() -> dict[str, ModelEntry]:
    return {name: entry for name, entry in catalogue().items() if entry.live}


def tasks_of(model: str) -> list[str]:
    kind = catalogue()[model].kind
    return [task.name for task in all_tasks() if kind in task.model_kinds]


def _kind(model: str) -> str:
    return get_task(tasks_of(model)[0]).kind


def _default(name: str, model: str) -> int:
    kind = _kind(model)
    rows = usual_eval_rows(kind, catalogue()[model].kind)
    return {"steps": STEPS, "seeds": len(SEEDS), "batch": BATCH[kind], "rows": rows}[name]


def _variants(name: str, model: str) -> tuple[str, ...]:
    """Sizes of a batch and of a test set are remembered for each kind of model, as they have other defaults."""
    return (catalogue()[model].kind,) if name in ("batch", "rows") else ()


# -- the address -------------------------------------------------------------------------------------------------


def readers() -> dict[str, Callable[[str], None]]:
    """What takes each setting out of the address; the model first, the others depend on it."""
    table: dict[str, Callable[[str], None]] = {
        "model": _read_model,
        "task": _read_task,
        "methods": _read_methods,
    }
    return table | {name: _number_reader(name) for name in NUMBERS}


def _read_model(text: str) -> None:
    if text not in live_models():
        raise UnknownName("model that can be trained here", text, live_models(), "model")
    state.remember(SCOPE, "model", text)


def _read_task(text: str) -> None:
    names = tasks_of(_model())
    if text not in names:
        raise UnknownName("task for this model", text, names, "task")
    state.remember(SCOPE, "task", text, _model())


def _read_methods(text: str) -> None:
    state.remember(SCOPE, "methods", [get_method(slug.strip()).slug for slug in text.split(",")])


def _number_reader(name: str) -> Callable[[str], None]:
    def read(text: str) -> None:
        state.remember(SCOPE, name, state.whole_number(text, name), *_variants(name, _model()))

    return read


def address() -> dict[str, tuple[Any, Any]]:
    """What the address has to say: ``name: (value, default)``."""
    model = _model()
    numbers = {
        name: (
            state.remembered(SCOPE, name, _default(name, model), *_variants(name, model)),
            _default(name, model),
        )
        for name in NUMBERS
    }
    return {
        "model": (model, next(iter(live_models()))),
        "task": (state.remembered(SCOPE, "task", tasks_of(model)[0], model), tasks_of(model)[0]),
        "methods": (state.remembered(SCOPE, "methods", list(all_methods())), list(all_methods())),
        **numbers,
    }


def misread() -> bool:
    """Whether the address said something of the form that cannot be used: its message stands in the form, which stays
    open from then on, so that mending it does not close it."""
    wrong = [state.address_problem(SCOPE, name) for name in ("model", "task", "methods", *NUMBERS)]
    state.remember(SCOPE, "misread", state.remembered(SCOPE, "misread", False) or any(wrong))
    return bool(state.remembered(SCOPE, "misread", False))


def _model() -> str:
    return str(state.remembered(SCOPE, "model", next(iter(live_models()))))


# -- the form ----------------------------------------------------------------------------------------------------


def form() -> ComparisonPlan | None:
    """Draw it; the comparison that is set, or ``None`` while something cannot work, which is said at its control."""
    slots: dict[str, Any] = {}
    left, right = st.columns(2)
    with left:
        model = _select("Model", "model", list(live_models()), lambda name: live_models()[name].title, slots)
    with right:
        names = tasks_of(model)
        task = _select("Task", "task", names, lambda name: get_task(name).title, slots, model)
    known = list(all_methods())
    picked = st.pills(
        "Methods",
        known,
        selection_mode="multi",
        default=[slug for slug in state.remembered(SCOPE, "methods", known) if slug in known],
        format_func=lambda slug: all_methods()[slug].title,
        key=state.widget_key(SCOPE, "methods"),
        help="A method that does not work with the model gets a row that says why.",
    )
    methods = [slug for slug in known if slug in picked]
    state.remember(SCOPE, "methods", methods)
    slots["methods"] = st.empty()
    _problem_at(slots, "methods")
    numbers = {}
    for cell, name in zip(st.columns(len(NUMBERS)), NUMBERS, strict=True):
        with cell:
            numbers[name] = _number(name, model, slots)
    return _planned(model, task, methods, numbers, slots)


def _select(
    label: str,
    name: str,
    options: list[str],
    title: Callable[[str], str],
    slots: dict[str, Any],
    *variants: str,
) -> str:
    index = state.one_of(SCOPE, name, options, options[0], *variants)
    key = state.widget_key(SCOPE, name, *variants)
    value: str = st.selectbox(label, options, index=index, format_func=title, key=key)
    state.remember(SCOPE, name, value, *variants)
    slots[name] = st.empty()
    _problem_at(slots, name)
    return value


def _number(name: str, model: str, slots: dict[str, Any]) -> int:
    each = get_task(tasks_of(model)[0]).each
    label, text = (part.format(each=each, Each=each.capitalize()) for part in NUMBERS[name])
    variants = _variants(name, model)
    start = int(state.remembered(SCOPE, name, _default(name, model), *variants))
    value = int(
        st.number_input(label, value=start, step=1, help=text, key=state.widget_key(SCOPE, name, *variants))
    )
    state.remember(SCOPE, name, value, *variants)
    slots[name] = st.empty()
    _problem_at(slots, name)
    return value


def _problem_at(slots: Mapping[str, Any], name: str) -> None:
    problem = state.address_problem(SCOPE, name)
    if problem:
        slots[name].markdown(f":red[:material/link_off: {plain(problem)} The default is used.]")


def _planned(
    model: str, task: str, methods: list[str], numbers: Mapping[str, int], slots: Mapping[str, Any]
) -> ComparisonPlan | None:
    try:
        if not methods:
            raise BadInput("Choose at least one method.", "methods")
        if not 1 <= numbers["seeds"] <= MOST_SEEDS:
            raise BadInput(f"Seeds must be from {1} to {MOST_SEEDS}; {numbers['seeds']:,} is not.", "seeds")
        return make_plan(
            ComparisonRequest(
                model=model,
                task=task,
                methods=tuple(methods),
                steps=numbers["steps"],
                batch=numbers["batch"],
                seeds=tuple(range(numbers["seeds"])),
                eval_rows=numbers["rows"],
            )
        )
    except PeftLabError as error:
        field = (error.field or "") if isinstance(error, BadInput) else ""
        place = slots.get(_FIELD.get(field, field), st)
        place.markdown(f":red[:material/error: {plain(error)}]")
        return None


def already_done(plan: ComparisonPlan) -> int:
    """How many of its runs the run store has."""
    from peft_lab.studies.compare import store

    return len(Comparison(plan.id, store.root() / plan.id).standing(plan).done)
