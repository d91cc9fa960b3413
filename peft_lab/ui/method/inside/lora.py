"""Look inside a LoRA: ΔW of every layer along the training, its singular values, the step-0 gradients, the merge."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import streamlit as st

from peft_lab.core import units
from peft_lab.core.errors import PeftLabError
from peft_lab.core.units import Source
from peft_lab.methods.lora.recording import GRID
from peft_lab.methods.recording.recorder import INTRUDER_THRESHOLD, STRONGEST
from peft_lab.models.catalogue import model_title
from peft_lab.models.shapes import ModelKind
from peft_lab.runs import store
from peft_lab.runs.spec import entry_of
from peft_lab.runs.view import RunSummary
from peft_lab.studies import blending
from peft_lab.training.evaluation import ModelAnswer
from peft_lab.training.tasks.own import task_title
from peft_lab.ui import state
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.form import choose
from peft_lab.ui.components.frame import errors_here
from peft_lab.ui.components.knobs import Choice, apart
from peft_lab.ui.components.waiting import shown
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.inside import by_kind, layer_of, played, side_by_side
from peft_lab.ui.method.inside.recorded import opened_run
from peft_lab.ui.method.train import answer_text
from peft_lab.ui.runs.shown import finished_of, read_arrays, read_insight, short_id

# ----------------------------------------
# Two trained adapters on one base: what it says when both corrections are added, with weights.


def two_adapters(slug: str, identity: str) -> None:
    """Offer to combine the open run with another one of the same base, and draw the result."""
    st.markdown(f"#### Two adapters on one base {figures.badge(Source.MEASURED)}")
    first = store.get(identity).spec
    others = [line for line in finished_of(slug) if line.id != identity and line.spec]
    fitting = [line for line in others if line.spec and not blending.problem(first, line.spec)]
    st.markdown(
        r"Two corrections of the same base can be added: $W + w_1\,\Delta W_1 + w_2\,\Delta W_2$. Nothing is "
        r"trained again."
    )
    if not fitting:
        st.info(_missing(first.model, [blending.problem(first, line.spec) for line in others if line.spec]))
        return
    with st.form(f"{slug}-blend", border=False):
        second = _second(slug, fitting)
        text = st.text_area(
            "Your sentence",
            value=state.remembered(slug, "blend-text", first.task_object().samples[0]),
            key=state.widget_key(slug, "blend-text", first.task),
            height=80,
        )
        asked = st.form_submit_button("Combine them")
    state.remember(slug, "blend-text", text)
    if asked:
        state.remember(slug, "blend-of", (identity, second, text))
    if state.remembered(slug, "blend-of", None) != (identity, second, text):
        return
    with errors_here():
        with st.spinner("Loading the base and combining both adapters…"):
            rows = blending.ask(identity, second, text)
        _shown(slug, task_title(first.task), task_title(store.get(second).spec.task), rows)


def _missing(model: str, reasons: list[str]) -> str:
    """Return what to do if no other run fits, or why the existing ones do not."""
    if reasons:
        return f"No other run can be combined with this one. {plain(reasons[0])}"
    return f"Train a second LoRA on {plain(model_title(model))}, for example on another task, to combine both here."


def _second(slug: str, lines: list[RunSummary]) -> str:
    titles = apart(
        {line.id: f"{task_title(line.task)} · {line.steps:,} steps · {short_id(line.id)}" for line in lines}
    )
    return choose(slug, "blend-second", "The second adapter", titles)


def _shown(slug: str, first: str, second: str, rows: list[dict[str, Any]]) -> None:
    weights = [row["weight"] for row in rows]
    names = (first, second) if first != second else (f"{first}, first run", f"{second}, second run")
    series = {name: (weights, [row["losses"][number] for row in rows]) for number, name in enumerate(names)}
    left, right = st.columns(2, gap="large")
    with left:
        figure = charts.curves(series, "weight of the second adapter", "held-out loss (nats)", height=300)
        charts.draw(figure, f"{slug}-blend-losses")
        st.caption(
            f"On {blending.ROWS} held-out rows of each run's task. The first adapter's weight is 1 minus the second's."
        )
    with right:
        figures.table(
            ("First", "Second", "Model's answer"),
            [
                (
                    f"{1 - row['weight']:.2f}",
                    f"{row['weight']:.2f}",
                    answer_text(ModelAnswer(row["text"], row["answer"], row["scores"])),
                )
                for row in rows
            ],
            numeric=(0, 1),
        )


# ----------------------------------------
# Look inside a LoRA: whether its strongest singular vectors resemble any of the pretrained matrix's.


PATIENCE = 1.5  # seconds
Row = dict[str, Any]


def intruders(slug: str, identity: str) -> None:
    """Offer to compare every matrix of the open run, and draw the one chosen above."""
    st.markdown(f"#### Intruder dimensions {figures.badge(Source.MEASURED)}")
    st.markdown(
        r"Each of the strongest left singular vectors of $W + \Delta W$ is compared with all left singular vectors of "
        "$W$. A vector that training only strengthened has a partner with a cosine near 1. An **intruder** has no "
        f"partner with a cosine above {INTRUDER_THRESHOLD:g}."
    )
    if st.button("Compare the singular vectors", key=f"{slug}-intruders"):
        state.remember(slug, "intruders-of", identity)
    if state.remembered(slug, "intruders-of", None) != identity:
        return
    doing = "Decomposing every adapted matrix twice…"
    shown(blending.ask_intruders(identity), partial(_intruders_shown, slug), doing, patience=PATIENCE)


def _intruders_shown(slug: str, rows: list[Row]) -> None:
    chosen = state.remembered(slug, "inside-module", "")
    row = next((each for each in rows if each["module"] == chosen), rows[0])
    many = len(row["cosines"])
    left, right = st.columns(2, gap="large")
    with left:
        numbers = [str(number) for number in range(1, many + 1)]
        figure = charts.heatmap(
            row["cosines"], "pretrained vector", "tuned vector", "|cosine|", numbers, numbers, limit=1.0
        )
        charts.draw(figure, f"{slug}-cosines")
        st.caption(
            f"{plain(row['module'])}: the {many} strongest singular vectors of each matrix. A dark diagonal means "
            "that nothing is new. A row without a dark cell is a new direction."
        )
    with right:
        figures.table(
            ("Tuned vector", "Singular value", "Nearest pretrained", ""),
            [
                (str(number), f"{value:.3g}", f"{cosine:.2f}", "intruder" if number in row["found"] else "")
                for number, (value, cosine) in enumerate(zip(row["tuned"], row["nearest"], strict=True), 1)
            ],
            numeric=(0, 1, 2),
        )
    with_any = [each for each in rows if each["found"]]
    total = sum(len(each["found"]) for each in rows)
    told = (
        f"**{total}** intruders in {len(with_any)} of {len(rows)} adapted matrices."
        if total
        else (
            f"**None** of the {STRONGEST} strongest vectors of the {len(rows)} adapted matrices is an intruder: such "
            "a short training rotated existing directions and added no new strong directions."
        )
    )
    st.markdown(f"{told} {figures.badge(Source.MEASURED)}")
    st.caption(
        f"The number of vectors ({STRONGEST}) and the threshold for an intruder ({INTRUDER_THRESHOLD:g}) are the "
        "defaults of PEFT's reduce_intruder_dimension. Intruders were found in longer trainings of larger models: "
        "Shuttleworth et al. 2024, arXiv 2410.21228."
    )


def show(choice: Choice) -> None:
    slug = choice.spec.slug
    identity = chosen_run(choice)
    if identity is None:
        return
    trained(slug, identity)
    intruders(slug, identity)
    if choice.entry.kind != "vision":  # it is asked a sentence
        two_adapters(slug, identity)


def trained(slug: str, identity: str) -> None:
    """Draw what one finished run learned."""
    found = read_insight(identity)
    rows = found["corrections"]
    row = _matrix(slug, rows)
    growth = found["growth"]
    played(slug, [snapshot["step"] for snapshot in growth], lambda index: _at(slug, identity, row, index))
    side_by_side(lambda: _relative(slug, rows), lambda: _growth(slug, growth))
    merge = found["merge"]
    side_by_side(
        lambda: _gradients(found["step0_gradients"]),
        lambda: _merge(merge, held_out(identity)) if merge else None,
    )


def chosen_run(choice: Choice) -> str | None:
    """Draw the choice of a finished run; None, with advice, if there is none."""
    return opened_run(choice, _complete, "what the run learned")


def _complete(found: dict[str, Any]) -> bool:
    """Return whether a run recorded everything shown here; earlier versions recorded less."""
    return bool(found.get("corrections")) and "singular_values" in found["growth"][0]


def _matrix(slug: str, rows: list[Row]) -> Row:
    names = [row["module"] for row in rows]
    largest = max(rows, key=lambda row: row["ratio"])["module"]
    st.markdown(f"#### What was added to one matrix {figures.badge(Source.MEASURED)}")
    text = "Shown first: the matrix that changed most relative to its size."
    module = choose(slug, "inside-module", "Adapted matrix", names, largest, text=text)
    return next(row for row in rows if row["module"] == module)


def _at(slug: str, identity: str, row: Row, index: int) -> None:
    """Draw one matrix at one snapshot, with axes that fit the whole training, so that growth is visible."""
    found = read_insight(identity)
    growth = found["growth"]
    name, snapshot = row["module"], growth[index]
    names = [each["module"] for each in found["corrections"]]
    stacked = read_arrays(identity)["grids"][:, names.index(name)].astype(float) * found["largest_cell"]
    out, into = row["shape"]
    cells = stacked[index][: min(GRID, out), : min(GRID, into)].tolist()
    highest = float(stacked[:, : min(GRID, out), : min(GRID, into)].max())
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown(f"**ΔW, {out:,} × {into:,}**")
        figure = charts.heatmap(cells, "input, binned", "output, binned", "root mean square")
        figure.update_traces(zmin=0, zmax=highest or 1.0)
        charts.draw(figure, f"{slug}-delta")
        st.caption(
            f"{len(cells)} × {len(cells[0])} cells; each shows the root mean square of the entries of ΔW in its area."
        )
    with right:
        values = snapshot["singular_values"][name]
        st.markdown(f"**Its {len(values)} singular values**")
        figure = charts.columns(
            list(range(1, len(values) + 1)), values, "singular value number", "singular value of ΔW"
        )
        top = max(max(each["singular_values"][name]) for each in growth)
        figure.update_yaxes(range=[0, 1.05 * top or 1.0])
        charts.draw(figure, f"{slug}-singular")
        ratio = snapshot["norms"][name] / row["base_norm"]
        st.markdown(
            f"The other {min(out, into) - len(values):,} singular values are exactly zero, because the rank of ΔW is "
            f"at most {len(values)}. The effective rank (exponential of the entropy of the values' shares) is "
            f"**{snapshot['effective_ranks'][name]:.1f}**; ‖ΔW‖ is **{units.percent(100 * ratio)}** of ‖W‖."
        )
    values_of_run = store.get(identity).spec.values
    if values_of_run.get("init_lora_weights") == "pissa":
        st.caption(
            "PiSSA starts from W's own top directions; ΔW is the change that training made, and its rank can be up "
            "to twice r."
        )
    if values_of_run.get("use_dora"):
        st.caption("DoRA also rescales every row of W + ΔW. The picture shows only ΔW = (α/r)·BA.")


def _relative(slug: str, rows: list[Row]) -> None:
    st.markdown(f"#### How much each layer moved {figures.badge(Source.MEASURED)}")
    layers = by_kind({row["module"]: row["ratio"] for row in rows if layer_of(row["module"]) is not None})
    series = {kind: (list(values), [values[layer] for layer in values]) for kind, values in layers.items()}
    charts.draw(charts.curves(series, "layer", "‖ΔW‖ / ‖W‖", height=300), f"{slug}-relative")
    top = max(rows, key=lambda row: row["ratio"])
    outside = ", ".join(
        f"{row['module']} {units.percent(100 * row['ratio'])}"
        for row in rows
        if layer_of(row["module"]) is None
    )
    st.caption(
        f"Norms are Frobenius norms. {top['module']} changed most: by {units.percent(100 * top['ratio'])} of its norm."
        + (f" Outside the layers: {outside}." if outside else "")
    )


def _growth(slug: str, growth: list[Row]) -> None:
    st.markdown(f"#### How the corrections grew {figures.badge(Source.MEASURED)}")
    steps = [snapshot["step"] for snapshot in growth]
    totals = [sum(norm**2 for norm in snapshot["norms"].values()) ** 0.5 for snapshot in growth]
    figure = charts.curves({"‖ΔW‖": (steps, totals)}, "optimizer step", "‖ΔW‖ over all layers", height=300)
    charts.draw(figure, f"{slug}-growth")
    st.caption("Zero at first: before the first step the tuned model is the base model.")


def _gradients(gradients: dict[str, dict[str, float]]) -> None:
    st.markdown(f"#### Gradients in the first step {figures.badge(Source.MEASURED)}")
    a, b = ([row[matrix] for row in gradients.values()] for matrix in ("A", "B"))
    at_zero = max(a) == 0
    figures.table(
        ("Matrix", "Starts as", "Gradient norm at step 0"),
        [
            ("A", "random" if at_zero else "W's top directions", _range(a)),
            ("B", "zero" if at_zero else "W's top directions", _range(b)),
        ],
        numeric=(2,),
    )
    if at_zero:
        st.markdown(
            r"$\partial L/\partial A$ contains $B$, which is zero, so A cannot move yet. $\partial L/\partial B$ "
            "contains $A$, which is not zero. If **both** were zero, neither would ever move."
        )
    else:
        st.markdown("Neither matrix starts at zero, so both move from the first step on.")


def _range(values: list[float]) -> str:
    low, high = min(values), max(values)
    return f"{high:.3g} in all {len(values)}" if low == high else f"{low:.3g} to {high:.3g}"


def kind_of(identity: str) -> ModelKind | None:
    """Return the kind of a run's model; ``None`` if its folder is gone."""
    try:
        return entry_of(store.get(identity).spec.model).kind
    except PeftLabError:
        return None


def held_out(identity: str) -> str:
    """Return the words for a run's held-out inputs: sentences, images or, if unknown, rows."""
    kind = kind_of(identity)
    return f"held-out {'images' if kind == 'vision' else 'sentences' if kind else 'rows'}"


def _merge(rows: list[Row], held: str) -> None:
    st.markdown(f"#### Merged, and unmerged again {figures.badge(Source.MEASURED)}")
    lines: tuple[tuple[str, Callable[[Row], str]], ...] = (
        ("Merged: outputs differ by", lambda row: f"{row['max_difference']:.2g}"),
        ("of the largest output", lambda row: units.percent(100 * row["relative"])),
        ("Unmerged again: outputs differ by", lambda row: f"{row['unmerged_difference']:.2g}"),
        ("Entries of W that changed", lambda row: units.percent(100 * row["changed_share"])),
    )
    cells = [(title, *(written(row) for row in rows)) for title, written in lines]
    figures.table(("", *(row["dtype"] for row in rows)), cells, numeric=range(1, len(rows) + 1))
    st.caption(
        f"The model answered the same {held} three times: with the adapter beside W, with BA merged into W, and with "
        "BA removed again. The differences are rounding errors. After unmerging, W is not bit for bit the original, so "
        "keep a copy of the base."
    )
