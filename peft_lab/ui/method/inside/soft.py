"""Look inside Prompt Tuning, Prefix Tuning and P-Tuning: what virtual tokens became, step by step, and their cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import streamlit as st

from peft_lab.core import units
from peft_lab.core.errors import BadInput, PeftLabError
from peft_lab.core.units import Source
from peft_lab.methods import get_method
from peft_lab.methods.base import Formula
from peft_lab.models.shapes import ModelShape
from peft_lab.runs import store
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.knobs import Choice
from peft_lab.ui.components.model_choice import entry_of
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.inside import played, side_by_side
from peft_lab.ui.method.inside.recorded import opened_run
from peft_lab.ui.runs.shown import read_insight

SHOWN = 24  # virtual tokens in the table


def show_run(slug: str, found: dict[str, Any]) -> None:
    """Draw the records of one finished run."""
    _words(slug, found)
    side_by_side(lambda: _moves(slug, found), lambda: _alike(slug, found))


def _words(slug: str, found: dict[str, Any]) -> None:
    shots = found["soft_tokens"]
    st.markdown(f"#### The words nearest to the virtual tokens {figures.badge(Source.MEASURED)}")
    starts = [row[0][0] for row in shots[0]["nearest"]]

    def draw(index: int) -> None:
        shot = shots[index]
        rows = []
        for number, near in enumerate(shot["nearest"][:SHOWN]):
            nearest = "  ".join(figures.unbroken(f"{word} {cosine:.2f}") for word, cosine in near)
            rows.append(
                (
                    str(number),
                    starts[number],
                    nearest,
                    f"{shot['moved'][number]:.2f}",
                    f"{shot['norm'][number]:.2f}",
                )
            )
        figures.table(
            ("Virtual token", "Started nearest to", "Nearest now, with cosine", "Moved", "Length"),
            rows,
            numeric=(3, 4),
        )
        kept = sum(near[0][0] == start for near, start in zip(shot["nearest"], starts, strict=True))
        best = max(near[0][1] for near in shot["nearest"])
        st.markdown(
            f"After **{shot['step']} steps**, {kept} of {len(starts)} tokens are still nearest to the word that they "
            f"started from. The best match has a cosine of **{best:.2f}**; 1 would be the word itself."
        )

    played(slug, [shot["step"] for shot in shots], draw, "inside-soft")
    st.caption(
        "The nearest words of the model's whole vocabulary are found by cosine. Moved: distance from the start. "
        f"For comparison, the median length of a word's embedding is {found['word_norm']:.2f}. ␣ is a space. The "
        "words need not make sense."
    )


def _moves(slug: str, found: dict[str, Any]) -> None:
    st.markdown(f"#### How far the virtual tokens moved {figures.badge(Source.MEASURED)}")
    shots = found["soft_tokens"]
    steps = [shot["step"] for shot in shots]
    size = found["word_norm"]
    series = {
        "farthest": (steps, [max(shot["moved"]) / size for shot in shots]),
        "mean": (steps, [sum(shot["moved"]) / len(shot["moved"]) / size for shot in shots]),
        "nearest": (steps, [min(shot["moved"]) / size for shot in shots]),
    }
    figure = charts.curves(series, "optimizer step", "distance, in lengths of a word", height=300)
    figure.update_traces(mode="lines+markers")
    charts.draw(figure, f"{slug}-moves")
    last = max(shots[-1]["moved"]) / size
    st.caption(
        f"The median length of a word's embedding is {size:.2f}. The token that moved farthest moved by {last:.1f} "
        "such lengths."
    )


def _alike(slug: str, found: dict[str, Any]) -> None:
    st.markdown(f"#### How alike the virtual tokens are {figures.badge(Source.MEASURED)}")
    shots = found["soft_tokens"]

    def draw(index: int) -> None:
        shot = shots[index]
        figure = charts.heatmap(
            shot["alike"], "virtual token", "virtual token", "cosine", diverging=True, height=300
        )
        figure.update_traces(zmin=-1, zmax=1)
        charts.draw(figure, f"{slug}-alike")
        st.markdown(
            f"After **{shot['step']} steps**, the mean cosine of two virtual tokens is **{pairs(shot['alike']):.2f}**."
        )

    played(slug, [shot["step"] for shot in shots], draw, "inside-alike")


def pairs(alike: list[list[float]]) -> float:
    """Return the mean cosine between different virtual tokens; 1 if there is only one."""
    others = [value for i, row in enumerate(alike) for j, value in enumerate(row) if i != j]
    return sum(others) / len(others) if others else 1.0


# ----------------------------------------
# Look inside trained keys and values: where attention lands along the training, and what they cost.


Shares = list[list[float]]


def show_keys_run(slug: str, identity: str, found: dict[str, Any]) -> None:
    """Draw the records of one finished run."""
    _attention(slug, found)
    left, right = st.columns(2, gap="large")
    with left:
        _along(slug, found)
    with right:
        try:
            shape = entry_of(store.get(identity).spec.model).shape
        except PeftLabError as error:  # its folder is gone
            st.info(plain(error))
            return
        _costs(shape, found)


def mean(share: Shares) -> float:
    values = [value for layer in share for value in layer]
    return sum(values) / len(values)


def _attention(slug: str, found: dict[str, Any]) -> None:
    even = found["even"]
    st.markdown(f"#### Attention that lands on the trained keys {figures.badge(Source.MEASURED)}")
    shots = [shot for shot in found["attention"] if shot["share"]]
    if not shots:
        st.markdown("This model does not return its attention weights.")
        return
    top = max(max(max(layer) for layer in shot["share"]) for shot in shots)

    def draw(index: int) -> None:
        shot = shots[index]
        cells = [[100 * value for value in layer] for layer in shot["share"]]
        figure = charts.heatmap(cells, "head", "layer", "%", height=90 + 22 * min(len(cells), 20))
        figure.update_traces(zmin=0, zmax=100 * top)
        figure.update_xaxes(dtick=1 if len(cells[0]) <= 16 else None)
        charts.draw(figure, f"{slug}-shares")
        layer, head = max(
            ((row, column) for row in range(len(cells)) for column in range(len(cells[0]))),
            key=lambda place: cells[place[0]][place[1]],
        )
        st.markdown(
            f"After **{shot['step']} steps** the trained keys get **{units.percent(100 * mean(shot['share']))}** of "
            f"all attention, most in layer {layer}, head {head}: {units.percent(cells[layer][head])}. If attention "
            f"were spread evenly over all visible positions, they would get {units.percent(100 * even)}."
        )

    played(slug, [shot["step"] for shot in shots], draw, "inside-keys")
    st.caption(
        f"Mean over the {found['tokens']:,} real tokens of {found['rows']} held-out rows. For each step shown, the "
        "model reads these rows with the prefix of that step."
    )


def _along(slug: str, found: dict[str, Any]) -> None:
    st.markdown(f"#### How this developed {figures.badge(Source.MEASURED)}")
    shots = [shot for shot in found["attention"] if shot["share"]]
    steps = [shot["step"] for shot in shots]
    series = {
        "attention on the trained keys": (steps, [100 * mean(shot["share"]) for shot in shots]),
        "difference between virtual tokens": (steps, [100 * shot["apart"] for shot in shots]),
    }
    figure = charts.curves(series, "optimizer step", "%", height=300)
    figure.update_traces(mode="lines+markers")
    charts.draw(figure, f"{slug}-keys-along")
    alike = found["attention"][-1]["apart"] < 1e-3
    st.caption(
        "Difference: how far the virtual tokens lie from their mean, relative to their average length. "
        + (
            f"The difference is zero: all {found['virtual_tokens']} started equal, got the same gradients and are "
            "still the same token. Choose another start to make them differ."
            if alike
            else "At zero, all virtual tokens would be one and the same token."
        )
    )


def _costs(shape: ModelShape, found: dict[str, Any]) -> None:
    st.markdown("#### What the trained tokens cost afterwards")
    tokens, each = found["virtual_tokens"], found["bytes_each"]
    timed = found["latency"]
    generates = timed["unit"] == "token"
    rows = [
        (
            f"Time of one {'generated token' if generates else 'pass'}, after {timed['length']} tokens",
            units.seconds(timed["without"]),
            units.seconds(timed["with"]),
            "measured",
        )
    ]
    if generates:
        kept = units.size(cache_bytes(shape, tokens, each))
        rows.insert(0, ("Keys and values kept for a sequence", "0 B", kept, "counted"))
    figures.table(("", "Without", "With", "Source"), rows, numeric=(1, 2))
    memory = (
        f"{tokens} virtual tokens × 2 × {shape.num_layers} layers × {shape.kv_width} wide × {each} bytes, **for "
        f"every sequence** of a batch. {tokens} ordinary tokens of text take the same memory."
        if generates
        else f"Nothing is stored between passes; each layer's attention has {tokens} more keys."
    )
    st.markdown(f"{memory} {slower(timed)}")


def slower(timed: dict[str, Any]) -> str:
    """Return a sentence on the slowdown; no figure if rounds with and without the trained keys overlap."""
    rounds = timed.get("rounds")
    if rounds is None:  # a run of an earlier version kept the medians only
        return "The times of the single rounds were not recorded, so a small difference may be noise."
    spread = ", ".join(
        f"{units.span(rounds[name][0], rounds[name][-1])} {name}" for name in ("without", "with")
    )
    medians = f"Medians of {len(rounds['with'])} rounds ({spread})"
    if rounds["with"][0] <= rounds["without"][-1] and rounds["without"][0] <= rounds["with"][-1]:
        return f"{medians}: they overlap, so this is no measurable difference."
    return f"{medians}: {timed['with'] / timed['without'] - 1:+.0%}."


def cache_bytes(shape: ModelShape, tokens: int, each: int) -> int:
    """Return the bytes of keys and values of ``tokens`` positions in all layers, for one sequence."""
    return tokens * 2 * shape.num_layers * shape.kv_width * each


def trained_and_stored(rows: list[tuple[str, Formula]]) -> None:
    """Draw trained beside stored parameters, by the closed formula, one row per setting."""
    figures.table(
        ("Setting", "Trained", "Stored", "Thrown away"),
        [
            (
                name,
                units.count(formula.trainable),
                units.count(formula.stored),
                units.percent(100 * (1 - formula.stored / formula.trainable)),
            )
            for name, formula in rows
        ],
        numeric=(1, 2, 3),
    )


# ----------------------------------------
# The views of Prompt Tuning, Prefix Tuning and P-Tuning.


def show_prompt(choice: Choice) -> None:
    identity = opened_run(choice, lambda found: found.get("soft_tokens"), "what the soft tokens became")
    if identity is not None:
        show_run(choice.spec.slug, read_insight(identity))


def show_prefix(choice: Choice) -> None:
    identity = opened_run(choice, lambda found: found.get("attention"), "what the prefix does")
    if identity is not None:
        show_keys_run(choice.spec.slug, identity, read_insight(identity))
    _projection(choice)


def _projection(choice: Choice) -> None:
    st.markdown(f"#### Trained and stored {figures.badge(Source.COUNTED)}")
    rows: list[tuple[str, Formula]] = []
    for on in (False, True):
        try:
            full = choice.spec.require(choice.shape, {**choice.values, "prefix_projection": on})
        except BadInput as error:
            st.markdown(plain(error))
            return
        name = f"projection {'on' if on else 'off'}" + (
            f", width {full['encoder_hidden_size']:,}" if on else ""
        )
        rows.append((name, choice.spec.formula(choice.shape, full)))
    trained_and_stored(rows)
    st.markdown(
        f"With the current settings, on {plain(choice.shape.title)}. The projection's MLP computes the prefix during "
        "training. After training, the MLP runs once. Its output is stored, and the MLP is discarded."
    )


def show_ptuning(choice: Choice) -> None:
    slug = choice.spec.slug
    identity = opened_run(choice, {"soft_tokens", "attention"}.intersection, "what the encoder makes")
    if identity is not None:
        found = read_insight(identity)
        if "attention" in found:
            show_keys_run(slug, identity, found)
        else:
            show_run(slug, found)
    side_by_side(lambda: _encoders(choice), lambda: _beside_prefix(choice))


def _encoders(choice: Choice) -> None:
    st.markdown(f"#### The encoder, trained and discarded {figures.badge(Source.COUNTED)}")
    trained_and_stored(list(_settings(choice)))
    st.markdown(
        f"On {plain(choice.shape.title)}, {choice.values['num_virtual_tokens']} virtual tokens. The encoder is "
        "needed only during training. At the end it runs once, and only its output is stored."
    )


def _settings(choice: Choice) -> Iterator[tuple[str, Formula]]:
    spec, shape = choice.spec, choice.shape
    widths = sorted({128, int(choice.values["encoder_hidden_size"]), shape.hidden})
    for kind in ("MLP", "LSTM"):
        for width in widths:
            # the start does not change what is counted, and version 2 has one that version 1 refuses
            values = {
                "version": "v1",
                "init_weights": "random",
                "encoder_reparameterization_type": kind,
                "encoder_hidden_size": width,
            }
            try:
                full = spec.require(shape, {**choice.values, **values})
            except BadInput:
                continue
            yield f"{kind}, width {width:,}", spec.formula(shape, full)


def _beside_prefix(choice: Choice) -> None:
    st.markdown(f"#### Version 2 beside Prefix Tuning {figures.badge(Source.COUNTED)}")
    tokens = {"num_virtual_tokens": choice.values["num_virtual_tokens"]}
    prefix = get_method("prefix")
    rows = [
        ("P-Tuning", choice.spec, {**tokens, "version": "v1"}, "input", "yes"),
        ("P-Tuning v2", choice.spec, {**tokens, "version": "v2"}, "keys, values of every layer", "no"),
        ("Prefix Tuning", prefix, tokens, "keys, values of every layer", "no"),
        (
            "Prefix Tuning, projected",
            prefix,
            {**tokens, "prefix_projection": True},
            "keys, values of every layer",
            "yes",
        ),
    ]
    lines, reasons = [], dict[str, None]()
    for name, spec, values, where, encoder in rows:
        try:
            formula = spec.formula(choice.shape, spec.require(choice.shape, values))
        except BadInput as error:
            reasons[str(error)] = None
            lines.append((name, where, encoder, "refused", "–"))
            continue
        lines.append((name, where, encoder, units.count(formula.trainable), units.count(formula.stored)))
    figures.table(("Method", "Trained in front of", "Encoder", "Trained", "Stored"), lines, numeric=(3, 4))
    st.markdown(
        "Version 2 **is** Prefix Tuning without the projection, applied to classification. PEFT has no class of that "
        "name. On decoders, both methods use the same PEFT config. PEFT refuses this config on encoders; there, PEFT "
        "Lab runs version 2 through transformers' attention function."
    )
    for reason in reasons:
        st.markdown(f":orange[:material/info: {plain(reason)}]")
