"""Look inside adapters: what each adds while it learns, why none can be merged, and three domains on one base."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any

import streamlit as st

from peft_lab.core import inspector, units
from peft_lab.core.errors import PeftLabError
from peft_lab.core.field import read
from peft_lab.methods.shared.bottleneck import SCALED, SUMMED, WORDS
from peft_lab.runs import store
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.view import RunSummary
from peft_lab.studies import experiments, serving
from peft_lab.studies.experiments import PlannedRun
from peft_lab.studies.serving import measure_serving
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.frame import part
from peft_lab.ui.components.knobs import Choice
from peft_lab.ui.components.waiting import shown
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.idea import standing_of, train
from peft_lab.ui.method.inside import by_kind, played, said, section
from peft_lab.ui.method.inside.recorded import opened_run
from peft_lab.ui.runs.shown import finished_of, read_insight, summaries

SLUG = "adapters"


def show(choice: Choice) -> None:
    identity = opened_run(choice, lambda found: found.get("snapshots"), "what the adapters learned")
    if identity is not None:
        found = read_insight(identity)
        with section("added", **{name: found[name] for name in ("tokens", "rows", "dtype")}):
            _added(found["snapshots"])
        _not_linear(found, store.get(identity).spec)
    _placements(choice)
    with section("domains"):
        _domains()


def _placements(choice: Choice) -> None:
    spec, shape = choice.spec, choice.shape

    def trained_so(line: RunSummary, values: Mapping[str, Any]) -> bool:
        same = (line.model, line.task) == (choice.entry.name, choice.task)
        return (
            same and line.spec is not None and read(spec.knobs, line.spec.values) == read(spec.knobs, values)
        )

    rows, told = [], []
    for placement in spec.knob("placement").choices:
        values = {**choice.values, "placement": placement}
        if spec.refusal(shape, values):
            continue
        formula = spec.formula(shape, spec.complete(shape, values))
        places = sum(term.count for term in formula.terms)
        scores = [line.after for line in finished_of(SLUG) if trained_so(line, values)]
        score = next((f"{after:.1%}" for after in scores if after is not None), "–")
        share = units.percent(100 * formula.trainable / (shape.total + formula.added))
        told.append(f"{placement}: {WORDS[placement]}.")
        rows.append((placement, f"{places:,}", f"{formula.trainable:,}", share, score))
    with section("placements", model=plain(shape.title), places=" ".join(told)):
        header = ("Placement", "Adapters", "Trained", "Of the model", "Latest score")
        figures.table(header, rows, numeric=range(1, 5))


def _percents(layers: Mapping[int, float]) -> tuple[list[float], list[float]]:
    return [*layers], [100 * value for value in layers.values()]


def _added(shots: list[dict[str, Any]]) -> None:
    top = max(value for shot in shots for value in shot["added"].values())

    def draw(index: int) -> None:
        shot = shots[index]
        series = {kind: _percents(layers) for kind, layers in by_kind(shot["added"]).items()}
        axes = ("layer", "‖W_up f(W_down h)‖ / ‖h‖, %")
        charts.draw(charts.curves(series, *axes, top=100 * top, markers=True), f"{SLUG}-added")
        most = units.percent(100 * max(shot["added"].values()))
        st.markdown(said("added now", step=shot["step"], most=most, change=shot["logit_change"]))

    played(SLUG, [shot["step"] for shot in shots], draw)


def _not_linear(found: dict[str, Any], run: RunSpec) -> None:
    placement, missed = run.values.get("placement"), found["missed"]
    place = "summed" if placement in SUMMED else "parallel" if placement in SCALED else "in line"
    with section("not linear", place=said(place)):
        if not missed:
            st.info(said("few rows"))
            return
        series = {
            f"{kind}, trained": _percents(layers)
            for kind, layers in by_kind({path: row["trained"] for path, row in missed.items()}).items()
        }
        for name, key in (("at the start", "start"), ("without f: a LoRA", "without_function")):
            worst: dict[int, float] = {}  # the largest figure of each layer
            for layers in by_kind({path: row[key] for path, row in missed.items()}).values():
                for layer, value in layers.items():
                    worst[layer] = max(value, worst.get(layer, 0.0))
            series[name] = _percents(dict(sorted(worst.items())))
        axes = ("layer", "not captured by the best linear map, %")
        charts.draw(charts.curves(series, *axes, height=320, markers=True), f"{SLUG}-missed")
        most, start, straight = (
            max(row[key] for row in missed.values()) for key in ("trained", "start", "without_function")
        )
        smooth = "relu start" if found["nonlinearity"] == "relu" else "smooth start"
        told = {"most": units.percent(100 * most), "start": said(smooth, share=units.percent(100 * start))}
        st.markdown(said("missed", function=found["nonlinearity"], straight=straight, **told))
        _merged_anyway(found, "Merged anyway" if place == "in line" else "Linear anyway", run.model)


def _merged_anyway(found: dict[str, Any], title: str, model: str) -> None:
    """Draw the merge beside merges of a LoRA on the same model, which show the effect of rounding alone."""
    lines, fitted = found["straightened"], found["fitted"]
    moved = lines["max_difference"]
    share, changed = units.percent(100 * moved / lines["max_logit"]), f"{lines['changed']} of {lines['rows']}"
    rows = [(f"Adapters, best linear maps, {found['dtype']}", f"{moved:.2g}", share, changed)]
    loras = (read_insight(line.id).get("merge") for line in finished_of("lora") if line.model == model)
    merges = next(filter(None, loras), ())
    for merge in merges:
        share = units.percent(100 * merge["relative"])
        rows.append((f"LoRA, {merge['dtype']}", f"{merge['max_difference']:.2g}", share, "–"))
    header = (title, "Logit change", "Of the largest", "Answers changed")
    figures.table(header, rows, numeric=(1, 2, 3))
    other = said("beside lora") if merges else "Train a LoRA on this model to compare how well it merges."
    st.caption(said("fitted", **fitted, other=other))


# ----------------------------------------
# Three domains on one base: train an adapter and a LoRA for each with one click, then serve them side by side.


REFRESH = 0.7  # seconds between looks at runs that are going
TITLES = {"adapters": "Adapters (ours)", "lora": "LoRA (PEFT)"}
Found = dict[str, list[PlannedRun]]  # a method's runs, labelled by their domains


def _domains() -> None:
    try:
        wanted = {method: serving.specs(method) for method in serving.METHODS}
    except PeftLabError as error:
        st.markdown(f":orange[:material/info: This comparison cannot run here: {plain(error)}]")
        return

    def look() -> tuple[Found, list[PlannedRun]]:
        lines = summaries()
        found = {method: experiments.planned_runs(specs, lines) for method, specs in wanted.items()}
        return found, [run for runs in found.values() for run in runs]

    found, runs = look()
    missing = [run for run in runs if not run.done]
    if not missing:
        _served(found)
        return
    going = any(run.under_way for run in runs)

    def standing() -> None:
        now, every = look()
        rows = [
            (TITLES[method], *(standing_of(run) if run.line else "not yet" for run in runs))
            for method, runs in now.items()
        ]
        figures.table(("", *serving.DOMAINS), rows)
        if going and not any(run.under_way for run in every):
            st.rerun()

    part(standing, every=REFRESH if going else None)
    label, icon = f"Train {len(missing)} and serve them", ":material/play_arrow:"
    if not going and st.button(label, key="domains-run", type="primary", icon=icon):
        train(missing)


def _served(found: Found) -> None:
    runs = {method: {run.label: run.line.id for run in runs if run.line} for method, runs in found.items()}
    seen, asker = serving.kept(runs), inspector.get_inspector(inspector.Worker.ANSWERS)
    if seen is None:
        doing = "All six adapters are trained. Serving the held-out rows of all three domains takes a minute…"
        shown(asker.submit(measure_serving, runs), _measured, doing)
        return
    _measured(seen)


def _measured(seen: dict[str, Any]) -> None:
    _accuracies(seen)
    _requests(seen)
    if st.button("Measure again", key="domains-again", icon=":material/refresh:"):
        serving.forget()
        inspector.get_inspector(inspector.Worker.ANSWERS).forget()
        st.rerun()


def _accuracies(seen: dict[str, Any]) -> None:
    """Draw every adapter's accuracy on every domain. The one trained there should win its column."""
    amounts = seen["scored"]
    chance = 200 * sqrt(0.25 / min(amounts.values()))
    listed = ", ".join(f"{rows} {name}" for name, rows in amounts.items())
    with section("accuracies", amounts=listed, chance=chance):
        for column, (method, found) in zip(st.columns(2, gap="large"), seen["methods"].items(), strict=True):
            with column:
                st.markdown(f"**{TITLES[method]}**")
                rows = [
                    (name, *(f"{share:.1%}" for share in shares.values()))
                    for name, shares in found["accuracy"].items()
                ]
                header = ("Trained on", *(f"on {domain}" for domain in serving.DOMAINS))
                figures.table(header, rows, numeric=range(1, 4))


def _requests(seen: dict[str, Any]) -> None:
    listed = "; ".join(
        f"{TITLES[method]}: {found['mixed_difference']:.2g} of {found['max_logit']:.3g}"
        for method, found in seen["methods"].items()
    )
    sizes = " and ".join(units.size(found["stored_bytes"]) for found in seen["methods"].values())
    told = {
        "listed": listed,
        "dtype": seen["dtype"],
        "sizes": sizes,
        "copies": units.size(3 * seen["base_bytes"]),
    }
    with section("requests", requests=seen["requests"], **told):
        rows = [
            (row["adapter"], row["text"], row["label"], f"{row['answer']} ({row['probability']:.0%})")
            for row in seen["examples"]
        ]
        figures.table(("Adapter", "Request", "People say", "Model says"), rows)
