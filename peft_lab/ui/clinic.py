"""The Debug clinic: find the fault of a run that went wrong, or have your own run diagnosed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from peft_lab.core import palette, units
from peft_lab.core.form import Form, choice, whole
from peft_lab.core.units import Source
from peft_lab.interview.clinic import reading
from peft_lab.interview.clinic.diagnose import SUSPECTED, Suspicion, diagnose, in_words
from peft_lab.interview.clinic.faults import (
    MOMENTS,
    ClinicCase,
    Fault,
    ShownCase,
    all_cases,
    all_faults,
    get_case,
)
from peft_lab.interview.learners.schedule import Learners
from peft_lab.methods import get_method
from peft_lab.takeaway.ship.adapter import STATE, from_files
from peft_lab.ui import pages, state
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.form import Controls
from peft_lab.ui.components.frame import errors_boxed
from peft_lab.ui.components.rows import listing
from peft_lab.ui.foreign import plain
from peft_lab.ui.practice import learner
from peft_lab.ui.practice.learner import form_tabs, with_next

# ----------------------------------------
# What a learner has solved, kept with the rest of what they did.


SCOPE = "clinic"
KIND = "clinic"


def solved(file: Learners, learner: str) -> dict[str, dict[str, Any]]:
    """Return the latest attempt at every case, by fault."""
    return {
        result.content["fault"]: result.content
        for result in file.results(learner, KIND, {"fault": str})
        if result.content["fault"] in all_faults()
    }


# ----------------------------------------
# What a run left, drawn: curve, settings, console, tensors, outputs.


WIDE = 56  # letters in a line of code in the wide column
_QUIET = ("seed", "finetuning_type", "lr_scheduler_type")
_MODELS = {"tiny-llama": "a small two-layer Llama", "minilm-l6": "MiniLM", "smollm2-135m": "SmolLM2-135M"}


def symptoms(case: ClinicCase) -> DeltaGenerator:
    """Draw everything about a run except the cause; return the place for the question, in view beside it."""
    what = f"{get_method(case.method).title} on {_MODELS.get(case.model, case.model)}"
    with_what = f"trained on {case.made} with PEFT {case.packages.get('peft', '')}"
    st.markdown(f"{plain(what)}, {plain(with_what)} {figures.badge(Source.MEASURED)}")
    left, right = st.columns([3, 2])
    with left:
        _curve({"this run": case.faulty}, f"curve-{case.number}")
        _console(case.faulty, "only")
        _outputs(case.faulty, "only")
        _tensors(case.faulty)
    with right:
        place = st.container(key="clinic-ask")
        _settings(case.faulty, "only")
    return place


def beside(case: ClinicCase) -> None:
    """Draw the faulty run beside the healthy one."""
    st.markdown(f"### Comparison with a healthy run {figures.badge(Source.MEASURED)}")
    _curve({"this run": case.faulty, "healthy": case.healthy}, f"both-{case.number}")
    for column, (title, run) in zip(
        st.columns(2), {"This run": case.faulty, "Healthy": case.healthy}.items(), strict=True
    ):
        with column:
            st.markdown(f"**{title}**")
            _outputs(run, title)
            _console(run, title)
            _settings(run, title)
            _tensors(run)


def show_fix(fault: Fault) -> None:
    """Draw the fix in words, and as code with the places it belongs to; and where the fault was met."""
    st.markdown(f"**Fix.** {plain(fault.fix)}")
    for moment, lines in fault.code.items():
        st.caption(f"Put this code {plain(MOMENTS[moment])}:")
        listing(lines, f"fix-{fault.name}-{moment}", WIDE)
    if fault.code:
        st.caption("A test applies this code to a small run with the fault and checks that the fix works.")
    st.markdown(f"**Seen in** [{plain(fault.reference.title)}]({fault.reference.url})")


def _curve(runs: dict[str, ShownCase], key: str) -> None:
    series = {name: run.curve for name, run in runs.items() if run.curve[0]}
    lost = sum(isinstance(row[1], str) for run in runs.values() for row in run.rows)
    if series:
        colours = {"this run": palette.CHART_TRAINED, "healthy": palette.CHART_QUANTISED}
        charts.draw(charts.curves(series, "step", "training loss (nats)", 240, colours=colours), key)
        if len(series) < len(runs):
            which, other = ("healthy", "faulty") if "this run" in series else ("faulty", "healthy")
            st.caption(f"The {which} run logged no training step. The curve shows the {other} run.")
    else:
        st.caption("The run logged no training step.")
    if lost:
        st.caption(f"Logged losses that are not numbers (NaN): {lost}.")


def _settings(run: ShownCase, which: str) -> None:
    told = {name: value for name, value in run.arguments.items() if name not in _QUIET}
    tokens = {name: value for name, value in run.tokens.items() if value is not None}
    st.caption("adapter_config.json")
    listing(_lines(run.config), f"{which}-config")
    st.caption("Training arguments and tokenizer")
    listing(_lines({**told, "tokenizer": tokens}), f"{which}-arguments")


def _lines(fields: Mapping[str, Any]) -> str:
    """Return JSON with one field per line."""
    return "\n".join(f'"{name}": {json.dumps(value, ensure_ascii=False)}' for name, value in fields.items())


def _console(run: ShownCase, which: str) -> None:
    if run.console:
        st.caption("Console")
        listing("\n".join(run.console), f"{which}-console", WIDE)


def _outputs(run: ShownCase, which: str) -> None:
    for number, (prompt, answer) in enumerate(run.outputs):
        st.caption("Output")
        listing(f"{prompt}\n\n→ {answer}", f"{which}-output-{number}", WIDE)


def _tensors(run: ShownCase) -> None:
    if not run.tensors:
        return
    st.caption(f"adapter_model.safetensors {figures.badge(Source.MEASURED)}")
    rows = [
        (
            str(name), " × ".join(map(str, shape)), str(dtype),
            f"{largest:g}" if isinstance(largest, int | float) else str(largest),
        )
        for name, shape, dtype, largest in run.tensors
    ]  # fmt: skip
    figures.table(("Tensor", "Shape", "Type", "Largest entry"), rows, numeric=(1, 3), fold=True)


# ----------------------------------------
# A run of one's own: files in, a ranked diagnosis out. Nothing leaves this machine, nothing is stored.


def examine() -> None:
    """Draw the uploads, and the diagnosis of the uploaded files."""
    st.markdown("Upload what you have of a run: its configs, its log or its adapter. One of them is enough.")
    one, two, three = st.columns(3)
    configs = one.file_uploader(
        "Configs", type="json", accept_multiple_files=True, key="clinic-configs",
        help="adapter_config.json and the training arguments, as JSON.",
    )  # fmt: skip
    log = two.file_uploader(
        "Log", type=["json", "jsonl", "csv", "log", "txt"], key="clinic-log",
        help="The Trainer's trainer_state.json, JSON Lines, CSV with a 'loss' column, or the console output.",
    )  # fmt: skip
    adapter = three.file_uploader(
        "Adapter folder", accept_multiple_files=True, key="clinic-adapter",
        help="All files of the folder: adapter_model.safetensors, adapter_config.json and the tokenizer's files.",
    )  # fmt: skip
    if not (configs or log or adapter):
        return
    with errors_boxed():
        material = reading.Material()
        for file in configs or ():
            read = reading.with_log if file.name == STATE else reading.with_config  # dropped with the rest
            material = read(material, file.name, file.getvalue())
        if log is not None:
            material = reading.with_log(material, log.name, log.getvalue())
        if adapter:
            material = reading.with_adapter(
                material, from_files("the upload", {file.name: file.getvalue() for file in adapter})
            )
        found = diagnose(material)
        if not found.found:
            st.info(plain(found.verdict))
        for each in found.found:
            _suspicion(each)
        rest = [each for each in found.suspicions if each.probability < SUSPECTED]
        if rest:
            with st.expander(f"Less likely causes ({len(rest)})"):
                for each in rest:
                    _suspicion(each)
        st.caption(
            "The evidence comes from your files. Each piece of evidence has a weight that was set by hand. The "
            "figure, from 0 to 1, is the sum of these weights; it is not a probability. Short runs with known faults "
            "show how often the diagnosis is right (`bench/RESULTS.md`)."
        )


def _suspicion(each: Suspicion) -> None:
    with st.container(border=True):
        st.markdown(f"### {plain(each.fault.title)}")
        st.markdown(f"Evidence **{each.probability:.2f}** :gray-badge[set by hand]")
        st.caption(f"{in_words(each.probability)} {figures.badge(Source.MEASURED)}")
        for text in each.evidence:
            st.markdown(f":material/search: {plain(text)}")
        show_fix(each.fault)


# ----------------------------------------
# One case: the symptoms, hints by degree, the learner's answer, then the explanation beside a healthy run.


def solve(file: Learners, learner: str, known: dict[str, dict[str, Any]], first: int) -> None:
    """Draw the choice of a case (``first`` by default) and the case."""
    cases = all_cases()

    def title(case: ClinicCase) -> str:
        done = known.get(case.fault.name)
        return f"Case {case.number}" + ("" if done is None else " (found)" if done["right"] else " (missed)")

    label = f"{sum(case.fault.name in known for case in cases)} of {len(cases)} cases answered"
    chosen = with_next(SCOPE, "case", label, {case.number: title(case) for case in cases}, first)
    _work(cases[chosen - 1], file, learner, known)


def _work(case: ClinicCase, file: Learners, learner: str, known: dict[str, dict[str, Any]]) -> None:
    before = known.get(case.fault.name)
    again = state.remembered(SCOPE, "again", None) == case.number
    with st.container(border=True):
        if before is not None and not again:
            _explained(case, before)
            return
        started = state.remembered(SCOPE, "since", file.now(), str(case.number))
        state.remember(SCOPE, "since", started, str(case.number))
        place = symptoms(case)
        with place, st.form(f"clinic-{case.number}", border=False):
            options = case.options()
            guess = st.radio(
                "What is wrong?",
                range(len(options)),
                index=None,
                format_func=lambda at: plain(options[at].title),
                key=state.widget_key(SCOPE, "guess", str(case.number)),
            )
            pressed = st.form_submit_button("Answer", type="primary", icon=":material/check:")
        with place:
            hints = _hints(case)
    if pressed and guess is None:
        st.markdown(":red[:material/edit: Choose an answer first.]")
    elif pressed and guess is not None:
        seconds = (file.now() - started).total_seconds()
        chosen, fault = options[int(guess)].name, case.fault.name
        told = {"guess": chosen, "right": chosen == fault, "seconds": round(seconds), "hints": hints}
        file.add_result(learner, KIND, {"fault": fault, **told})
        for entry in ("since", "hints"):
            state.scope(SCOPE).pop(f"{entry}.{case.number}", None)
        state.scope(SCOPE).pop("again", None)
        st.rerun()


def _hints(case: ClinicCase) -> int:
    """Draw the hints requested so far; return their number."""
    given = int(state.remembered(SCOPE, "hints", 0, str(case.number)))
    texts = case.hints()
    for text in texts[:given]:
        st.markdown(f":material/lightbulb: {plain(text)}")
    if given < len(texts) and st.button(
        "Hint" if not given else "Another hint",
        icon=":material/lightbulb:",
        type="tertiary",
        key="clinic-hint",
    ):
        state.remember(SCOPE, "hints", given + 1, str(case.number))
        st.rerun()
    return given


def _explained(case: ClinicCase, before: dict[str, Any]) -> None:
    fault = case.fault
    guess = all_faults().get(before["guess"])
    if before["right"]:
        st.success(f"Correct. Time: {units.seconds(before['seconds'])}; hints: {int(before['hints'])}.")
    else:
        st.warning(f"Wrong: you chose “{plain(guess.title if guess else '')}”. The cause is below.")
    st.markdown(f"## The cause: {plain(fault.title)}")
    st.markdown(plain(fault.why))
    show_fix(fault)
    beside(case)
    if st.button("Try again", icon=":material/replay:", key="clinic-again"):
        state.remember(SCOPE, "again", case.number)
        st.rerun()


TABS = {"cases": "Find the fault", "own": "Your own run"}


@dataclass(frozen=True)
class ClinicForm(Form):
    """The page's settings."""

    case: int = whole(1, "Case", "", reader=lambda text: get_case(text).number)
    tab: str = choice("cases", "Tab", "", TABS)


def clinic_page() -> None:
    """Draw the page."""
    pages.open_page()
    st.title("Debug clinic")
    st.markdown(
        "Find out why a fine-tuning run failed. Each faulty run was **really trained**, next to a healthy one."
    )
    with errors_boxed():
        file, name = learner.current_learner()
        known = solved(file, name)
        first = next((case.number for case in all_cases() if case.fault.name not in known), 1)
        form = Controls(ClinicForm, SCOPE, lambda: ClinicForm(first))
        form.read_address()
        form_tabs(form, TABS, {"cases": lambda: solve(file, name, known, first), "own": examine})
        state.write_address(form.address())
