"""Three domains on one base: train an adapter and a LoRA for each with one click, then serve them side by side."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any

import streamlit as st

from peft_lab.core import asking, units
from peft_lab.core.errors import PeftLabError
from peft_lab.core.units import Source
from peft_lab.runs import store
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.view import Status
from peft_lab.studies import serving
from peft_lab.studies.experiments import results
from peft_lab.studies.experiments.results import PlannedRun
from peft_lab.studies.serving import measure_serving
from peft_lab.ui.components import figures
from peft_lab.ui.components.frame import part
from peft_lab.ui.components.waiting import shown
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.idea import train
from peft_lab.ui.runs.shown import summaries
from peft_lab.workers import inspector

REFRESH = 0.7  # seconds between looks at runs that are going
TITLES = {"adapters": "Adapters (ours)", "lora": "LoRA (PEFT)"}
Found = dict[str, list[PlannedRun]]  # a method's runs, labelled by their domains


def show() -> None:
    st.markdown("#### Three domains, one base")
    st.markdown(
        "One base model in memory, and one small file each for movies, products and tweets. A batch may mix "
        "requests: every row goes through its own adapter. Unmerged LoRA can do the same; here the two stand side "
        "by side."
    )
    try:
        wanted = {method: serving.specs(method) for method in serving.METHODS}
    except PeftLabError as error:
        st.markdown(f":orange[:material/info: This cannot run here: {plain(error)}]")
        return
    found = _look(wanted)
    if all(run.done for run in _all(found)):
        _served(found)
        return
    going = any(run.under_way for run in _all(found))

    def standing() -> None:
        now = _look(wanted)
        _progress(now)
        if going and not any(run.under_way for run in _all(now)):
            st.rerun()

    part(standing, every=REFRESH if going else None)
    if not going:
        _button(found)


def _look(wanted: Mapping[str, Mapping[str, RunSpec]]) -> Found:
    lines = summaries()
    return {method: results.planned(specs, lines) for method, specs in wanted.items()}


def _all(found: Found) -> list[PlannedRun]:
    return [run for runs in found.values() for run in runs]


def _progress(found: Found) -> None:
    def score(run: PlannedRun) -> str:
        if run.line is None:
            return "not yet"
        if not run.under_way:
            return run.line.status
        seen = store.get(run.line.id).view()
        return f"{seen.status}, {seen.progress:.0%}" if seen.status is not Status.QUEUED else "queued"

    figures.table(
        ("", *serving.DOMAINS),
        [(TITLES[method], *map(score, runs)) for method, runs in found.items()],
    )


def _button(found: Found) -> None:
    missing = [run for run in _all(found) if not run.done]
    if st.button(
        f"Train {len(missing)} and serve them",
        key="domains-run",
        type="primary",
        icon=":material/play_arrow:",
    ):
        train(missing)


def _served(found: Found) -> None:
    runs = {method: {run.label: run.line.id for run in runs if run.line} for method, runs in found.items()}
    seen = serving.kept(runs)
    if seen is not None:
        _measured(seen)
        return
    asked = inspector.get_inspector(inspector.Worker.ANSWERS).submit(measure_serving, runs)
    doing = "All six are trained. Serving the held-out rows of all three domains takes a minute…"
    shown(asked, _measured, doing)


def _measured(seen: dict[str, Any]) -> None:
    _accuracies(seen)
    _requests(seen)
    _costs(seen)
    if st.button("Measure again", key="domains-again", icon=":material/refresh:"):
        serving.forget()
        inspector.get_inspector(inspector.Worker.ANSWERS).forget()
        st.rerun()


def _accuracies(seen: dict[str, Any]) -> None:
    """Draw each adapter on each domain. The one that was trained there should win its column."""
    st.markdown(f"##### How well each model answers each domain {figures.badge(Source.MEASURED)}")
    for column, (method, found) in zip(st.columns(2, gap="large"), seen["methods"].items(), strict=True):
        with column:
            st.markdown(f"**{TITLES[method]}**")
            figures.table(
                ("Trained on", *(f"on {domain}" for domain in serving.DOMAINS)),
                [
                    (name, *(f"{share:.1%}" for share in shares.values()))
                    for name, shares in found["accuracy"].items()
                ],
                numeric=range(1, 4),
            )
    amounts = seen["scored"]
    rows = min(amounts.values())
    st.caption(
        f"Share of the held-out rows ({', '.join(f'{rows} {name}' for name, rows in amounts.items())}) that get the "
        f"label people gave them; chance alone can move such a share by up to {200 * sqrt(0.25 / rows):.0f} points. "
        "The same base serves all nine."
    )


def _requests(seen: dict[str, Any]) -> None:
    st.markdown(f"##### One batch of {seen['requests']} mixed requests {figures.badge(Source.MEASURED)}")
    figures.table(
        ("Adapter", "Request", "People say", "It says"),
        [
            (row["adapter"], row["text"], row["label"], f"{row['answer']} ({row['probability']:.0%})")
            for row in seen["examples"]
        ],
    )
    listed = [
        f"{TITLES[method]}: {found['mixed_difference']:.2g} of {found['max_logit']:.3g}"
        for method, found in seen["methods"].items()
    ]
    st.caption(
        "The first of them, answered through the bottleneck adapters. Largest difference in a logit from the same "
        f"row in an unmixed batch: {'; '.join(listed)}; in {seen['dtype']}."
    )


def _costs(seen: dict[str, Any]) -> None:
    st.markdown(f"##### What serving costs {figures.badge(Source.MEASURED)}")
    methods = seen["methods"]

    def row(label: str, key: str) -> tuple[str, ...]:
        return (label, *(units.seconds(found["seconds"][key]) for found in methods.values()))

    merge = methods["lora"]["seconds"]["merge"]
    figures.table(
        (f"{seen['requests']} requests", *(TITLES[method] for method in methods)),
        [
            row("Base alone, adapters off", "bare"),
            row("All through one adapter", "one"),
            row("Mixed, each row through its own", "mixed"),
            row("Sorted into three batches, with switches", "apart"),
            row("One switch: no weights move", "switch"),
            ("One switch when merged: merge and take out", "cannot merge", units.seconds(merge)),
            ("Three adapters on disk", *(units.size(found["stored_bytes"]) for found in methods.values())),
        ],
        numeric=(1, 2),
    )
    st.caption(
        f"Medians on {asking.here()}. Three fully tuned copies would be {units.size(3 * seen['base_bytes'])} in "
        "float32. A merged LoRA adds no time to a request, which adapters can never do; in return it serves one "
        "task only."
    )
