"""Look inside adapters: what each adds while it learns, why none can be merged, and three domains on one base."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any

import streamlit as st

from peft_lab.core import asking, inspector, units
from peft_lab.core.errors import PeftLabError
from peft_lab.core.field import read
from peft_lab.core.units import Source
from peft_lab.methods.shared.bottleneck import SCALED, SUMMED, WORDS
from peft_lab.runs import store
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.view import RunSummary, Status
from peft_lab.studies import experiments, serving
from peft_lab.studies.experiments import PlannedRun
from peft_lab.studies.serving import measure_serving
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.frame import part
from peft_lab.ui.components.knobs import Choice
from peft_lab.ui.components.waiting import shown
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.idea import train
from peft_lab.ui.method.inside import by_kind, played
from peft_lab.ui.method.inside.recorded import opened_run
from peft_lab.ui.runs.shown import finished_of, read_insight, summaries

SLUG = "adapters"


def show(choice: Choice) -> None:
    identity = opened_run(choice, lambda found: found.get("snapshots"), "what the adapters learned")
    if identity is not None:
        found = read_insight(identity)
        _added(found)
        _not_linear(found, store.get(identity).spec)
    _placements(choice)
    show_domains()


def _placements(choice: Choice) -> None:
    st.markdown(f"#### Where the same adapter can be placed {figures.badge(Source.COUNTED)}")
    spec, shape = choice.spec, choice.shape
    rows, told = [], []
    for placement in spec.knob("placement").choices:
        values = {**choice.values, "placement": placement}
        if spec.refusal(shape, values):
            continue
        formula = spec.formula(shape, spec.complete(shape, values))
        places = sum(term.count for term in formula.terms)
        lines = [line for line in finished_of(SLUG) if _trained_so(line, choice, values)]
        score = next((f"{line.after:.1%}" for line in lines if line.after is not None), "–")
        share = units.percent(100 * formula.trainable / (shape.total + formula.added))
        told.append(f"{placement}: {WORDS[placement]}.")
        rows.append((placement, f"{places:,}", f"{formula.trainable:,}", share, score))
    header = ("Placement", "Adapters", "Trained", "Of the model", "Latest score")
    figures.table(header, rows, numeric=range(1, 5))
    st.caption(
        f"On {plain(shape.title)} with the current settings. {' '.join(told)} Scores come from finished runs with "
        "exactly these settings, on this task."
    )


def _trained_so(line: RunSummary, choice: Choice, values: Mapping[str, Any]) -> bool:
    same = (line.model, line.task) == (choice.entry.name, choice.task)
    knobs = choice.spec.knobs
    return same and line.spec is not None and read(knobs, line.spec.values) == read(knobs, values)


def _added(found: dict[str, Any]) -> None:
    st.markdown(f"#### What each adapter adds to its input {figures.badge(Source.MEASURED)}")
    shots = found["snapshots"]
    top = max(value for shot in shots for value in shot["added"].values())

    def draw(index: int) -> None:
        shot = shots[index]
        series = {
            kind: (list(layers), [100 * value for value in layers.values()])
            for kind, layers in by_kind(shot["added"]).items()
        }
        figure = charts.curves(series, "layer", "‖W_up f(W_down h)‖ / ‖h‖, %", height=300)
        figure.update_yaxes(range=[0, 105 * top])
        figure.update_traces(mode="lines+markers")
        charts.draw(figure, f"{SLUG}-added")
        largest = max(shot["added"].values())
        st.markdown(
            f"After **{shot['step']} steps** the norm of an adapter's output is at most "
            f"**{units.percent(100 * largest)}** of the norm of its input (mean over tokens). Switching all adapters "
            f"on changes a logit by at most **{shot['logit_change']:.2g}**."
        )

    played(SLUG, [shot["step"] for shot in shots], draw)
    st.caption(
        f"{found['tokens']:,} tokens of {found['rows']} held-out rows, in {found['dtype']}. At step 0 both matrices "
        "are tiny, so the model is almost exactly the base model. If both were exactly zero, neither would get a "
        "gradient."
    )


def _not_linear(found: dict[str, Any], run: RunSpec) -> None:
    placement = run.values.get("placement")
    parallel = placement in (*SCALED, *SUMMED)
    st.markdown(f"#### Why they cannot be merged {figures.badge(Source.MEASURED)}")
    place = (
        "This adapter reads the residual stream, not just the output of the map before it, and its output is added to "
        "the stream. So even a linear adapter could not be merged into a matrix. You can still measure how far the "
        "adapter is from linear"
        if placement in SUMMED
        else (
            "A parallel adapter maps the feed-forward part's input to its output and bypasses the nonlinearity in "
            "between. So even a linear adapter could not be merged into a matrix. You can still measure how far the "
            "adapter is from linear"
        )
        if parallel
        else "Only a linear map can be merged into the matrix before it"
    )
    st.markdown(
        f"{place}. So each adapter was replaced by its **best linear map**, fitted by least squares to the trained "
        "adapter's inputs and outputs. What share of the adapter's output does this map miss on other rows?"
    )
    missed, lines = found["missed"], found["straightened"]
    if not missed:
        st.info(
            "This run had too few held-out rows to fit linear maps: a fit needs two tokens for each input "
            "dimension. Train with more held-out rows."
        )
        return
    series: dict[str, Any] = {}
    for kind, layers in by_kind({path: row["trained"] for path, row in missed.items()}).items():
        series[f"{kind}, trained"] = (list(layers), [100 * value for value in layers.values()])
    for name, key in (("at the start", "start"), ("without f: a LoRA", "without_function")):
        worst = _worst({path: row[key] for path, row in missed.items()})
        series[name] = (list(worst), [100 * value for value in worst.values()])
    figure = charts.curves(series, "layer", "not captured by the best linear map, %", height=320)
    figure.update_traces(mode="lines+markers")
    charts.draw(figure, f"{SLUG}-missed")
    largest = max(row["trained"] for row in missed.values())
    straight = max(row["without_function"] for row in missed.values())
    st.markdown(
        f"The best linear map misses up to **{units.percent(100 * largest)}** of a trained adapter's output; for the "
        f"same matrices without {found['nonlinearity']}, the best linear map misses {straight:.0e}, which is "
        f"rounding error. {_at_the_start(found)}"
    )
    _merged_anyway(lines, found, "Linear anyway" if parallel else "Merged anyway", run.model)


def _at_the_start(found: dict[str, Any]) -> str:
    """Return a sentence on why the untrained adapters are almost linear, or not."""
    start = units.percent(100 * max(row["start"] for row in found["missed"].values()))
    if found["nonlinearity"] == "relu":
        return f"relu has its kink at zero, so it is not linear even at the start ({start})."
    return (
        f"At the start the best linear map misses {start}: the hidden values are tiny, and near zero a smooth "
        "function is almost linear. The nonlinear part is learned in training."
    )


def _worst(values: Mapping[str, float]) -> dict[int, float]:
    """Return the largest figure of each layer."""
    found: dict[int, float] = {}
    for layers in by_kind(values).values():
        for layer, value in layers.items():
            found[layer] = max(value, found.get(layer, 0.0))
    return dict(sorted(found.items()))


def _merged_anyway(lines: dict[str, Any], found: dict[str, Any], title: str, model: str) -> None:
    """Draw the merge beside merges of a LoRA on the same model, which show the effect of rounding alone."""
    rows = [
        (
            f"Adapters, best linear maps, {found['dtype']}",
            f"{lines['max_difference']:.2g}",
            units.percent(100 * lines["max_difference"] / lines["max_logit"]),
            f"{lines['changed']} of {lines['rows']}",
        )
    ]
    lora = next(
        (line for line in finished_of("lora") if line.model == model and read_insight(line.id).get("merge")),
        None,
    )
    for merge in read_insight(lora.id)["merge"] if lora is not None else ():
        moved = (f"{merge['max_difference']:.2g}", units.percent(100 * merge["relative"]))
        rows.append((f"LoRA, {merge['dtype']}", *moved, "–"))
    figures.table(
        (title, "Logit change", "Of the largest", "Answers changed"),
        rows,
        numeric=(1, 2, 3),
    )
    fitted = found["fitted"]
    other = (
        "Merging a LoRA causes only rounding errors: large in 16 bits, almost none in float32. But a linear map "
        "misses part of an adapter at any precision."
        if lora is not None
        else "Train a LoRA on this model to compare how well it merges."
    )
    st.caption(
        f"The maps were fitted to {fitted['tokens']:,} tokens and tested on {fitted['judged']:,} other tokens. {other}"
    )


# ----------------------------------------
# Three domains on one base: train an adapter and a LoRA for each with one click, then serve them side by side.


REFRESH = 0.7  # seconds between looks at runs that are going
TITLES = {"adapters": "Adapters (ours)", "lora": "LoRA (PEFT)"}
Found = dict[str, list[PlannedRun]]  # a method's runs, labelled by their domains


def show_domains() -> None:
    st.markdown("#### Three domains, one base")
    st.markdown(
        "One base model stays in memory, with one small adapter each for movies, products and tweets. A batch can mix "
        "their requests, because every row uses its own adapter. Unmerged LoRA can do the same; here you can compare "
        "both methods."
    )
    try:
        wanted = {method: serving.specs(method) for method in serving.METHODS}
    except PeftLabError as error:
        st.markdown(f":orange[:material/info: This comparison cannot run here: {plain(error)}]")
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
    return {method: experiments.planned_runs(specs, lines) for method, specs in wanted.items()}


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
    doing = "All six adapters are trained. Serving the held-out rows of all three domains takes a minute…"
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
    """Draw every adapter's accuracy on every domain. The one trained there should win its column."""
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
        "Each figure is the share of the held-out rows "
        f"({', '.join(f'{rows} {name}' for name, rows in amounts.items())}) for which the model gives the label that "
        f"people gave. Chance alone can move such a share by up to {200 * sqrt(0.25 / rows):.0f} points. The same base "
        "is used for all nine shares."
    )


def _requests(seen: dict[str, Any]) -> None:
    st.markdown(f"##### One batch of {seen['requests']} mixed requests {figures.badge(Source.MEASURED)}")
    figures.table(
        ("Adapter", "Request", "People say", "Model says"),
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
        "The first requests of the batch, answered through the bottleneck adapters. Largest difference of a logit from "
        f"its value in an unmixed batch: {'; '.join(listed)}; in {seen['dtype']}."
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
            row("Sorted into three batches, with a switch before each", "apart"),
            row("One switch to another adapter: no weights move", "switch"),
            ("One switch when merged: merge and unmerge", "cannot merge", units.seconds(merge)),
            ("Three adapters on disk", *(units.size(found["stored_bytes"]) for found in methods.values())),
        ],
        numeric=(1, 2),
    )
    st.caption(
        f"Medians on {asking.here()}. Three fully tuned copies would take {units.size(3 * seen['base_bytes'])} in "
        "float32. A merged LoRA adds no time to a request, but it serves only one task. Adapters always add some "
        "time."
    )
