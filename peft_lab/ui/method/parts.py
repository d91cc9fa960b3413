"""Parameters: the count, the formula beside it, the treemap, and the same setting on well-known models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from peft_lab.core import units
from peft_lab.core.errors import BadInput, PeftLabError
from peft_lab.core.inspector import get_pool
from peft_lab.engine.request import Simulation, StepRequest, StepSetting
from peft_lab.engine.simulate import memory_of
from peft_lab.engine.step import OPTIMIZER_TITLES
from peft_lab.methods.base import Formula, Term
from peft_lab.methods.counting.count import CountReport, GroupCount
from peft_lab.models.catalogue import catalogue
from peft_lab.models.shapes import CLASSIFIERS
from peft_lab.runs.spec import BATCH
from peft_lab.ui import state
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.charts import areas, caption, treemap
from peft_lab.ui.components.figures import HEADER, detail, plain
from peft_lab.ui.components.form import choose
from peft_lab.ui.components.frame import error_line
from peft_lab.ui.components.knobs import Choice
from peft_lab.ui.components.rows import Column, RowOf, rows
from peft_lab.ui.components.waiting import collect
from peft_lab.ui.foreign import code
from peft_lab.ui.foreign import plain as foreign_plain
from peft_lab.ui.method import settings

SHORT = 20  # characters of an expression that is kept on one line


def parameters(choice: Choice, report: CountReport) -> None:
    """Draw the count beside the closed formula, which must equal it."""
    formula = choice.spec.formula(choice.shape, choice.values)
    left, right = st.columns([6, 5], gap="large")
    with left:
        st.markdown(f"#### Count and formula {figures.badge(report.source)}")
        _equality(report, formula)
        _substituted(formula)
        _totals(report, formula)
    with right:
        st.markdown("#### Where the parameters are")
        found = areas(report.tree)
        charts.draw(treemap(found), f"treemap.{choice.spec.slug}")
        st.markdown(f"{caption(found)} {figures.badge(report.source)}")
    st.markdown("#### The same setting on well-known models")
    st.caption(
        "The numbers below come from the formula above, so no weights are needed. To count one of these models module "
        f"by module, choose it as the model. {figures.badge('counted')}"
    )
    _other_models(choice)


def _equality(report: CountReport, formula: Formula) -> None:
    st.latex(formula.symbolic)
    if report.formula == report.trainable:
        st.markdown(
            f":green[:material/check: equal] — the count and the formula both give **{units.count(report.trainable)}**"
        )
    else:
        st.warning(f"{foreign_plain(report.difference)} {figures.badge(report.source)}")


def _substituted(formula: Formula) -> None:
    rows = [
        (f"`{term.module.split('{}.')[-1]}`", _each(term), f"{term.count:,}", units.count(term.total))
        for term in formula.terms
    ]
    if len(rows) > 12:
        rest = sum(term.total for term in formula.terms[11:])
        rows = [*rows[:11], (f"and {len(formula.terms) - 11} more", "", "", units.count(rest))]
    rows.append(("Sum", "", "", units.count(formula.trainable)))
    figures.table(("Where", "Each", "×", "Parameters"), rows, numeric=(2, 3))


def _each(term: Term) -> str:
    """Return a term as ``8 · (576 + 192) = 6,144``, which may break before the equals sign."""
    plain, number = term.expression.replace(r"\cdot", "·").replace(r"\times", "×"), units.count(term.each)
    plain = plain.translate(str.maketrans("", "", "{}\\"))  # of KaTeX
    if plain in (number, str(term.each)):
        return number
    result = figures.unbroken(f"= {number}")
    return f"{figures.unbroken(plain) if len(plain) <= SHORT else plain} {result}"


def _totals(report: CountReport, formula: Formula) -> None:
    rows = [
        ("Trainable", units.count(report.trainable)),
        ("Share of all", units.percent(report.percent)),
        ("Model with the method", units.count(report.total)),
        ("Added to the model", units.count(formula.added)),
        ("Stored parameters", units.count(report.stored_parameters - report.head)),
        ("Stored file", f"{units.size(report.stored_bytes)} ({report.stored_bytes:,} B)"),
    ]
    if report.lora_fa:
        rows.insert(1, ("Trained with LoRA-FA's optimizer (freezes A)", units.count(report.lora_fa)))
    if report.head:
        rows.append(("Task head, trained and stored beside the adapter", units.count(report.head)))
    figures.table(("", "Counted"), rows, numeric=(1,))


def _other_models(choice: Choice) -> None:
    spec = choice.spec
    own = spec.defaults(choice.shape)
    rows = []
    for entry in catalogue().values():
        # Names differ between architectures: keep the learner's numbers, take each model's own default targets.
        defaults = spec.defaults(entry.shape)
        values = {
            name: defaults[name]
            if spec.knob(name).kind == "modules" and entry.shape.model_type != choice.shape.model_type
            else value
            for name, value in choice.values.items()
        }
        try:
            formula = spec.formula(entry.shape, spec.require(entry.shape, values))
        except BadInput as error:
            rows.append((entry.title, units.count(entry.parameters), "–", "–", str(error)))
            continue
        share = units.percent(100 * formula.trainable / (entry.parameters + formula.added))
        targets = ", ".join(values["target_modules"]) if "target_modules" in own else ""
        counts = (units.count(entry.parameters), units.count(formula.trainable), share)
        rows.append((entry.title, *counts, targets))
    last = "Targets" if "target_modules" in own else "Remark" if any(row[4] for row in rows) else ""
    width = 5 if last else 4
    header = ("Model", "Parameters", "Trained", "Share", last)[:width]
    with st.expander(f"{len(rows)} models"):
        st.markdown(figures.badge("counted"))
        figures.table(header, [row[:width] for row in rows], numeric=(1, 2, 3), fold=True)


# ----------------------------------------
# Injected modules: the module tree before and after, identical layers collapsed, and one module in detail.


_KIND = {"trainable": "trained", "task head": "trained", "quantised": "packed"}
_MARK = {"frozen": "frozen", "method": "trainable", "head": "task head"}


def modules(choice: Choice, report: CountReport, selected: str | None) -> None:
    """Draw the tree as a table, one row per group of similar modules; selecting one shows its parameters."""
    lines = group_rows(report.tree)
    changed = sum(row.modules for row in lines if row.state == "trainable")
    new = sum(row.modules for row in lines if row.added)
    left, right = st.columns([11, 9], gap="medium")
    with left:
        st.markdown(f"#### The tree after applying {choice.spec.title}")
        st.markdown(
            f"The model has {sum(row.modules for row in lines):,} modules of {len(lines)} kinds. "
            f"{choice.spec.title} added {new:,} of them; {changed:,} {'has' if changed == 1 else 'have'} trainable "
            f"parameters. {figures.badge(report.source)}"
        )
        shown = ("All modules", "Trainable only", "Before")
        show = st.segmented_control(
            "Show",
            shown,
            default=state.remembered("modules", "show", shown[0]),
            key=state.widget_key("modules", "show"),
            required=True,
            label_visibility="collapsed",
        )
        state.remember("modules", "show", show)
        kinds = {"Trainable only": ("trainable", "task head")}
        visible = [
            row
            for row in lines
            if (not row.added if show == "Before" else row.state in kinds.get(show, (row.state,)))
        ]
        picked = _tree_table(choice, visible, show, selected)
    first = next((row.module for row in visible if row.state == "trainable"), lines[0].module)
    with right:
        _detail(choice, report, picked or selected or first)


@dataclass
class ModuleRow:
    """All modules that differ only in the layer index, with their parameters summed."""

    module: str
    type: str
    modules: int
    parameters: int = 0
    state: str = "frozen"
    added: bool = True


def group_rows(tree: Sequence[GroupCount]) -> list[ModuleRow]:
    """Return one row per module group: its parameters summed, its state, whether the method added it."""
    table: dict[str, ModuleRow] = {}
    for group in tree:
        row = table.setdefault(group.module, ModuleRow(group.module, group.type, group.count))
        row.parameters += group.parameters
        row.added = row.added and group.added
        if group.role != "frozen":
            row.state = _MARK[group.role]
        elif group.quantised and row.state == "frozen":
            row.state = "quantised"
    return list(table.values())


def tree_key(choice: Choice) -> str:
    return f"tree.{choice.spec.slug}"


def _tree_table(choice: Choice, lines: Sequence[ModuleRow], show: str, selected: str | None) -> str | None:
    columns = (
        Column("Module"),
        Column("×", numeric=True, help="How many modules of this kind"),
        Column("State"),
        Column("Parameters", numeric=True),
    )
    made = []
    for row in lines:
        kind, state = ("", "as published") if show == "Before" else (_KIND.get(row.state, ""), row.state)
        cells = (plain(row.module), f"{row.modules:,}", state, units.count(row.parameters))
        made.append(RowOf(row.module, cells, ("", "", kind)))
    return rows(columns, made, tree_key(choice), "Modules of the model", selected)


def _detail(choice: Choice, report: CountReport, module: str) -> None:
    st.markdown(f"#### One module {figures.badge(report.source)}")
    found = detail(module, report, choice.shape, choice.spec.parts(choice.shape, choice.values))
    st.markdown(code(found.title))
    if found.note:
        st.caption(foreign_plain(found.note))
        return
    figures.table(HEADER, [(code(name), what, number) for name, what, number in found.rows], numeric=(2,))


# ----------------------------------------
# Memory: one training step part by part, simulated beside measured, full fine-tuning as the reference.


DTYPES = {"bfloat16": "bfloat16", "float32": "float32"}
UNLIMITED = 131_072  # tokens of a row, where a model has no fixed number of positions
NEXT = "next"
STEPS = {NEXT: "The step of your next run", "own": "Another step"}
DEVICES = {"cpu": "this processor", "cuda": "a CUDA GPU"}


_PRACTICE = (
    "The bars above follow common practice on a GPU: adapters in float32, full fine-tuning with optimizer states in "
    "the base's precision. Runs here store the trained parameters in the base's precision, with float32 copies"
)
_LOGITS = (
    ", compute logits only where a token is predicted, and pad each row to the longest row of its batch."
)


def memory(choice: Choice) -> None:
    """Draw the step of the run that Train would start, which the headline shows too, or another one."""
    try:
        run = settings.planned(choice) if choice.valid else None
    except PeftLabError:
        run = None
    ahead = run is not None and choose(choice.spec.slug, "m-step", "Step", STEPS) == NEXT
    title, full = choice.spec.title, "Full fine-tuning"
    asked: dict[str, Future[Any]]
    if run is not None and ahead:
        asked = {title: settings.ask_run_step(run, 0), full: settings.ask_full_step(run, 0)}
    else:
        step = _controls(choice)
        asked = {title: ask_step(step), full: ask_step(replace(step, method=settings.FULL, values={}))}
    if choice.spec.slug == settings.FULL:
        del asked[full]
    answers = collect(asked)
    for reason in answers.refused.values():
        error_line(reason)
    found = {name: answer[0] if ahead else answer for name, answer in answers.found.items()}
    if ahead and found:
        batch = batch_words(next(iter(answers.found.values()))[1])
        st.markdown(f"Your next run measures this step: {batch}. The headline shows the same step.")
    if not found:
        st.markdown("Simulating a step…" if answers.waiting else "")
        return
    st.markdown(f"#### Peak of one training step {figures.badge('simulated')}")
    # one that is still to come has its place already
    rows = {name: found[name].parts if name in found else {} for name in asked if name not in answers.refused}
    charts.draw(charts.memory_bars(rows), f"{choice.spec.slug}-memory")
    _table(found)
    own = found.get(choice.spec.title)
    if own is not None:
        st.markdown(f"#### The step from beginning to end {figures.badge('simulated')}")
        figure = charts.memory_timeline([(point.phase, point.layer, point.parts) for point in own.points])
        charts.draw(figure, f"{choice.spec.slug}-timeline")
        st.caption(
            "Left to right: the model at rest, forward through the layers, backward, the optimizer's step."
        )
    if not ahead:
        vision = choice.entry.kind == "vision"
        st.caption(f"{_PRACTICE}{'.' if vision else _LOGITS}")


def batch_words(found: Mapping[str, Any]) -> str:
    """Return the size of a run's batch in words."""
    if "image" in found:
        _, height, width = found["image"]
        return f"{found['rows']} images of {width} × {height} pixels"
    if found.get("apart"):
        each = f"{found['length']} tokens to read and {found['kept']} to write"
        return f"batch of {found['rows']} rows, each with {each}"
    return f"batch of {found['rows']} × {found['length']} tokens"


def _usual(choice: Choice) -> dict[str, Any]:
    """Return the default settings."""
    rows = BATCH["classification" if choice.entry.kind in CLASSIFIERS else "generation"]
    first = {"batch": rows, "seq": 64, "dtype": next(iter(DTYPES)), "optimizer": next(iter(OPTIMIZER_TITLES))}
    return {**first, "device": next(iter(DEVICES)), "checkpointing": False}


def step_now(choice: Choice) -> StepRequest:
    """Return the current step, whether or not its controls are drawn."""
    slug = choice.spec.slug
    now = {
        name: st.session_state.get(_key(choice, name), state.remembered(slug, f"m-{name}", first))
        for name, first in _usual(choice).items()
    }
    return _step(choice, now)


def _key(choice: Choice, name: str) -> str:
    """Return a control's key; for the row length it depends on the model, as does its limit."""
    limit = (str(_longest(choice)),) if name == "seq" else ()
    return state.widget_key(choice.spec.slug, f"m-{name}", *limit)


def _longest(choice: Choice) -> int:
    """Return the maximum number of tokens in a row."""
    return choice.shape.max_positions or UNLIMITED


def _image(choice: Choice) -> int:
    """Return the number of positions of an image for a vision model; 0 for text models."""
    return (choice.shape.max_positions or 0) if choice.entry.kind == "vision" else 0


def _step(choice: Choice, now: Mapping[str, Any]) -> StepRequest:
    seq = _image(choice) or min(now["seq"], _longest(choice))
    setting = StepSetting(now["batch"], seq, optimizer=now["optimizer"], device=now["device"])
    about = (choice.entry.name, choice.spec.slug, choice.values)
    return StepRequest(*about, setting, now["dtype"], now["checkpointing"])


def _controls(choice: Choice) -> StepRequest:
    slug, usual = choice.spec.slug, _usual(choice)
    cells = st.columns([4, 4, 6, 5, 6, 7], vertical_alignment="bottom")
    rows = int(state.remembered(slug, "m-batch", usual["batch"]))
    batch = cells[0].number_input("Batch size", 1, 4096, rows, 1, key=_key(choice, "batch"))
    seq, most = int(state.remembered(slug, "m-seq", usual["seq"])), _longest(choice)
    if image := _image(choice):
        key = state.widget_key(slug, "m-seq", choice.entry.name)
        cells[1].number_input("Positions per image", value=image, disabled=True, key=key)
    else:
        start = min(seq, most)
        chosen = cells[1].number_input("Tokens per row", 1, most, start, 1, key=_key(choice, "seq"))
        # what this model cannot read is kept for the one that it was chosen for
        seq = seq if chosen == start else chosen
    dtype = choose(slug, "m-dtype", "Precision of the base", DTYPES, place=cells[2])
    optimizer = choose(slug, "m-optimizer", "Optimizer", OPTIMIZER_TITLES, place=cells[3])
    device = choose(slug, "m-device", "Runs on", DEVICES, place=cells[4])
    key = state.widget_key(slug, "m-checkpointing")
    checkpointing = cells[5].toggle(
        "Checkpointing", value=state.remembered(slug, "m-checkpointing", False), key=key,
        help="Gradient checkpointing stores only the input of each layer and computes the rest again in the backward "
        "pass.",
    )  # fmt: skip
    values = (int(batch), int(seq), dtype, optimizer, device, checkpointing)
    now = dict(zip(usual, values, strict=True))
    for name, value in now.items():
        state.remember(slug, f"m-{name}", value)
    return _step(choice, now)


def ask_step(step: StepRequest, urgency: int = 0) -> Future[Simulation]:
    """Request a step's simulation from the pool, so that counts need not wait; refusals are cached too."""
    return get_pool().submit(urgency, memory_of, step)


def _table(found: dict[str, Simulation]) -> None:
    every = found.values()
    names = [name for name in next(iter(every)).parts if any(one.parts[name] for one in every)]
    rows = [(name.capitalize(), *(units.size(one.parts[name]) for one in every)) for name in names]
    rows.append(("Peak, tensors alive", *(units.size(one.peak_bytes) for one in every)))
    if all(one.reserved_bytes for one in every):
        rows.append(("Reserved by the allocator", *(units.size(one.reserved_bytes or 0) for one in every)))
    figures.table(("At the peak", *found), rows, numeric=range(1, len(found) + 1))
