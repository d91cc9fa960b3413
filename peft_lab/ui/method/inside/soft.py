"""Look inside Prompt Tuning, Prefix Tuning and P-Tuning: what virtual tokens became, step by step, and their cost."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from statistics import fmean
from typing import Any

import streamlit as st

from peft_lab.core import units
from peft_lab.core.errors import BadInput, PeftLabError
from peft_lab.methods import get_method
from peft_lab.methods.base import Formula
from peft_lab.models.shapes import ModelShape
from peft_lab.runs import store
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.knobs import Choice
from peft_lab.ui.components.model_choice import entry_of
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.inside import played, said, section, side_by_side
from peft_lab.ui.method.inside.recorded import opened_run
from peft_lab.ui.runs.shown import read_insight

SHOWN = 24  # virtual tokens in the table


def show_prompt(choice: Choice) -> None:
    identity = opened_run(choice, lambda found: found.get("soft_tokens"), "what the soft tokens became")
    if identity is not None:
        _tokens(choice.spec.slug, read_insight(identity))


def show_prefix(choice: Choice) -> None:
    identity = opened_run(choice, lambda found: found.get("attention"), "what the prefix does")
    if identity is not None:
        _keys(choice.spec.slug, identity, read_insight(identity))
    with section("projection"):
        rows: list[tuple[str, Formula]] = []
        for on in (False, True):
            try:
                full = choice.spec.require(choice.shape, {**choice.values, "prefix_projection": on})
            except BadInput as error:
                st.markdown(plain(error))
                return
            name = f"projection on, width {full['encoder_hidden_size']:,}" if on else "projection off"
            rows.append((name, choice.spec.formula(choice.shape, full)))
        _trained_and_stored(rows)
        st.markdown(said("projected", model=plain(choice.shape.title)))


def show_ptuning(choice: Choice) -> None:
    slug = choice.spec.slug
    identity = opened_run(choice, {"soft_tokens", "attention"}.intersection, "what the encoder makes")
    if identity is not None:
        found = read_insight(identity)
        if "attention" in found:
            _keys(slug, identity, found)
        else:
            _tokens(slug, found)
    side_by_side(lambda: _encoders(choice), lambda: _beside_prefix(choice))


# ----------------------------------------
# Virtual tokens before the text: the words nearest to them, how far they moved, how alike they are.


def _tokens(slug: str, found: dict[str, Any]) -> None:
    """Draw the records of one finished run."""
    shots = found["soft_tokens"]
    steps, size = [shot["step"] for shot in shots], found["word_norm"]
    with section("nearest words", norm=size):
        played(slug, steps, lambda index: _words(shots, index), "inside-soft")

    def moves() -> None:
        with section("token moves", norm=size, last=max(shots[-1]["moved"]) / size):
            series = {
                name: (steps, [of(shot["moved"]) / size for shot in shots])
                for name, of in (("farthest", max), ("mean", fmean), ("nearest", min))
            }
            axes = ("optimizer step", "distance, in lengths of a word")
            charts.draw(charts.curves(series, *axes, markers=True), f"{slug}-moves")

    def matrix(index: int) -> None:
        alike, axes = shots[index]["alike"], ("virtual token", "virtual token", "cosine")
        figure = charts.heatmap(alike, *axes, diverging=True, height=300, limit=1.0)
        charts.draw(figure, f"{slug}-alike")
        others = [value for i, row in enumerate(alike) for j, value in enumerate(row) if i != j]
        st.markdown(said("mean cosine", step=steps[index], cosine=fmean(others or [1.0])))

    def alike() -> None:
        with section("alike"):
            played(slug, steps, matrix, "inside-alike")

    side_by_side(moves, alike)


def _words(shots: list[dict[str, Any]], index: int) -> None:
    shot, starts = shots[index], [row[0][0] for row in shots[0]["nearest"]]
    rows = []
    for number, near in enumerate(shot["nearest"][:SHOWN]):
        nearest = "  ".join(figures.unbroken(f"{word} {cosine:.2f}") for word, cosine in near)
        lengths = (f"{shot[name][number]:.2f}" for name in ("moved", "norm"))
        rows.append((str(number), starts[number], nearest, *lengths))
    header = ("Virtual token", "Started nearest to", "Nearest now, with cosine", "Moved", "Length")
    figures.table(header, rows, numeric=(3, 4))
    kept = sum(near[0][0] == start for near, start in zip(shot["nearest"], starts, strict=True))
    best = max(near[0][1] for near in shot["nearest"])
    st.markdown(said("kept words", step=shot["step"], kept=kept, tokens=len(starts), best=best))


# ----------------------------------------
# Trained keys and values: where attention lands along the training, and what they cost.


def _keys(slug: str, identity: str, found: dict[str, Any]) -> None:
    """Draw the records of one finished run."""
    shots = [shot for shot in found["attention"] if shot["share"]]
    means = [100 * fmean(chain.from_iterable(shot["share"])) for shot in shots]
    with section("attention", tokens=found["tokens"], rows=found["rows"]):
        if shots:
            top = max(max(map(max, shot["share"])) for shot in shots)

            def draw(index: int) -> None:
                cells = [[100 * value for value in layer] for layer in shots[index]["share"]]
                high = 90 + 22 * min(len(cells), 20)
                figure = charts.heatmap(cells, "head", "layer", "%", height=high, limit=100 * top)
                figure.update_xaxes(dtick=1 if len(cells[0]) <= 16 else None)
                charts.draw(figure, f"{slug}-shares")
                most, layer, head = max(
                    (value, row, column)
                    for row, line in enumerate(cells)
                    for column, value in enumerate(line)
                )
                shares = {"share": means[index], "most": most, "even": 100 * found["even"]}
                percents = {name: units.percent(value) for name, value in shares.items()}
                st.markdown(
                    said("attention now", step=shots[index]["step"], layer=layer, head=head, **percents)
                )

            played(slug, [shot["step"] for shot in shots], draw, "inside-keys")
        else:
            st.markdown("This model does not return its attention weights.")

    def along() -> None:
        alike = said("same tokens", tokens=found["virtual_tokens"])
        apart = "At zero, all virtual tokens would be one and the same token."
        with section("attention along", alike=alike if found["attention"][-1]["apart"] < 1e-3 else apart):
            steps = [shot["step"] for shot in shots]
            series = {
                "attention on the trained keys": (steps, means),
                "difference between virtual tokens": (steps, [100 * shot["apart"] for shot in shots]),
            }
            charts.draw(charts.curves(series, "optimizer step", "%", markers=True), f"{slug}-keys-along")

    def costs() -> None:
        try:
            shape = entry_of(store.get(identity).spec.model).shape
        except PeftLabError as error:  # its folder is gone
            st.info(plain(error))
            return
        _costs(shape, found)

    side_by_side(along, costs)


def _costs(shape: ModelShape, found: dict[str, Any]) -> None:
    st.markdown("#### What the trained tokens cost afterwards")
    tokens, each, timed = found["virtual_tokens"], found["bytes_each"], found["latency"]
    generates = timed["unit"] == "token"
    what = f"Time of one {'generated token' if generates else 'pass'}, after {timed['length']} tokens"
    rows = [(what, units.seconds(timed["without"]), units.seconds(timed["with"]), "measured")]
    text = said("no cache", tokens=tokens)
    if generates:
        kept = units.size(tokens * 2 * shape.num_layers * shape.kv_width * each)
        rows.insert(0, ("Keys and values kept for a sequence", "0 B", kept, "counted"))
        text = said("cache", tokens=tokens, layers=shape.num_layers, width=shape.kv_width, each=each)
    figures.table(("", "Without", "With", "Source"), rows, numeric=(1, 2))
    st.markdown(f"{text} {slower(timed)}")


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


# ----------------------------------------
# What is trained and what of it is stored, by the closed formulas.


def _trained_and_stored(rows: list[tuple[str, Formula]]) -> None:
    """Draw trained beside stored parameters, one row per setting."""
    lines = [
        (name, units.count(formula.trainable), units.count(formula.stored),
         units.percent(100 * (1 - formula.stored / formula.trainable)))
        for name, formula in rows
    ]  # fmt: skip
    figures.table(("Setting", "Trained", "Stored", "Thrown away"), lines, numeric=(1, 2, 3))


def _encoders(choice: Choice) -> None:
    with section("encoders"):
        _trained_and_stored(list(_settings(choice)))
        tokens = choice.values["num_virtual_tokens"]
        st.markdown(said("encoded", model=plain(choice.shape.title), tokens=tokens))


def _settings(choice: Choice) -> Iterator[tuple[str, Formula]]:
    spec, shape = choice.spec, choice.shape
    # the start does not change what is counted, and version 2 has one that version 1 refuses
    first = {**choice.values, "version": "v1", "init_weights": "random"}
    for kind in ("MLP", "LSTM"):
        for width in sorted({128, int(choice.values["encoder_hidden_size"]), shape.hidden}):
            encoder = {"encoder_reparameterization_type": kind, "encoder_hidden_size": width}
            try:
                yield f"{kind}, width {width:,}", spec.formula(shape, spec.require(shape, first | encoder))
            except BadInput:
                continue


def _beside_prefix(choice: Choice) -> None:
    tokens = {"num_virtual_tokens": choice.values["num_virtual_tokens"]}
    prefix, every = get_method("prefix"), "keys, values of every layer"
    rows = [
        ("P-Tuning", choice.spec, {**tokens, "version": "v1"}, "input", "yes"),
        ("P-Tuning v2", choice.spec, {**tokens, "version": "v2"}, every, "no"),
        ("Prefix Tuning", prefix, tokens, every, "no"),
        ("Prefix Tuning, projected", prefix, {**tokens, "prefix_projection": True}, every, "yes"),
    ]
    with section("version 2"):
        lines, reasons = [], dict[str, None]()
        for name, spec, values, where, encoder in rows:
            try:
                formula = spec.formula(choice.shape, spec.require(choice.shape, values))
                counts = (units.count(formula.trainable), units.count(formula.stored))
            except BadInput as error:
                reasons[str(error)] = None
                counts = ("refused", "–")
            lines.append((name, where, encoder, *counts))
        header = ("Method", "Trained in front of", "Encoder", "Trained", "Stored")
        figures.table(header, lines, numeric=(3, 4))
        st.markdown(said("version 2 is"))
        for reason in reasons:
            st.markdown(f":orange[:material/info: {plain(reason)}]")
