"""What a run left, drawn: curve, settings, console, tensors, outputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import streamlit as st

from peft_lab import palette
from peft_lab.clinic.cases import Case, Shown
from peft_lab.clinic.fault import MOMENTS, Fault
from peft_lab.methods import get_method
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.listing import listing
from peft_lab.ui.foreign import plain
from peft_lab.units import Source

WIDE = 56  # letters in a line of code in the wide column
_QUIET = ("seed", "finetuning_type", "lr_scheduler_type")
_MODELS = {"tiny-llama": "a small Llama of two layers", "minilm-l6": "MiniLM", "smollm2-135m": "SmolLM2-135M"}


def symptoms(case: Case) -> None:
    """Everything but the cause."""
    what = f"{get_method(case.method).title} on {_MODELS.get(case.model, case.model)}"
    with_what = f"run {case.made} with PEFT {case.packages.get('peft', '')}"
    st.markdown(f"{plain(what)}, {plain(with_what)} {figures.badge(Source.MEASURED)}")
    left, right = st.columns([3, 2])
    with left:
        _curve({"this run": case.faulty}, f"curve-{case.number}")
        _console(case.faulty, "only")
        _outputs(case.faulty, "only")
    with right:
        _settings(case.faulty, "only")
    _tensors(case.faulty)


def beside(case: Case) -> None:
    """The faulty run and the healthy one."""
    st.markdown(f"### Beside a healthy run {figures.badge(Source.MEASURED)}")
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
    """The fix in words, and as code with the places it belongs to."""
    st.markdown(f"**Fix.** {plain(fault.fix)}")
    for moment, lines in fault.code.items():
        st.caption(f"This code goes {plain(MOMENTS[moment])}:")
        listing(lines, f"fix-{fault.name}-{moment}", WIDE)
    if fault.code:
        st.caption("A test runs it on a small case of this fault and checks that the fault is gone.")


def _curve(runs: dict[str, Shown], key: str) -> None:
    series = {name: run.curve for name, run in runs.items() if run.curve[0]}
    lost = sum(isinstance(row[1], str) for run in runs.values() for row in run.rows)
    if series:
        colours = {"this run": palette.CHART_TRAINED, "healthy": palette.CHART_QUANTISED}
        with st.container(key=f"curve-room-{key}"):
            st.plotly_chart(
                charts.curves(series, "step", "training loss (nats)", 240, colours=colours),
                config=charts.CONFIG,
                key=key,
            )
        if len(series) < len(runs):
            missing = next(name for name in runs if name not in series)
            which, other = "the run with the fault", "the healthy run's"
            if missing != "this run":
                which, other = "the healthy run", "that of the run with the fault"
            st.caption(f"Of {which} no training step was logged: the line is {other}.")
    else:
        st.caption("No training step was logged.")
    if lost:
        st.caption(f"{lost} logged losses are no numbers (NaN).")


def _settings(run: Shown, which: str) -> None:
    told = {name: value for name, value in run.arguments.items() if name not in _QUIET}
    tokens = {name: value for name, value in run.tokens.items() if value is not None}
    st.caption("adapter_config.json")
    listing(_lines(run.config), f"{which}-config")
    st.caption("Training arguments and tokenizer")
    listing(_lines({**told, "tokenizer": tokens}), f"{which}-arguments")


def _lines(fields: Mapping[str, Any]) -> str:
    """A field a line, as JSON has it."""
    return "\n".join(f'"{name}": {json.dumps(value, ensure_ascii=False)}' for name, value in fields.items())


def _console(run: Shown, which: str) -> None:
    if run.console:
        st.caption("Console")
        listing("\n".join(run.console), f"{which}-console", WIDE)


def _outputs(run: Shown, which: str) -> None:
    for number, (prompt, answer) in enumerate(run.outputs):
        st.caption("Output")
        listing(f"{prompt}\n\n→ {answer}", f"{which}-output-{number}", WIDE)


def _tensors(run: Shown) -> None:
    if not run.tensors:
        return
    st.caption("adapter_model.safetensors")
    rows = [
        (str(name), " × ".join(map(str, shape)), str(dtype), _largest(largest))
        for name, shape, dtype, largest in run.tensors
    ]
    figures.table(("tensor", "shape", "type", "largest entry"), rows, numeric=(1, 3), fold=True)


def _largest(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)
