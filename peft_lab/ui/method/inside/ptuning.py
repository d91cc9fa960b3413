"""Look inside P-Tuning: what the encoder makes and what of it is kept; version 2 beside Prefix Tuning."""

from __future__ import annotations

from collections.abc import Iterator

import streamlit as st

from peft_lab.core import units
from peft_lab.core.errors import BadInput
from peft_lab.core.units import Source
from peft_lab.methods import get_method
from peft_lab.methods.base import Formula
from peft_lab.ui.components import figures
from peft_lab.ui.components.knobs import Choice
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.inside import soft
from peft_lab.ui.runs.shown import finished_of, nothing_to_open, pick_run, read_insight


def show(choice: Choice) -> None:
    slug = choice.spec.slug
    runs = [line for line in finished_of(slug) if {"soft_tokens", "attention"} & set(read_insight(line.id))]
    if runs:
        identity = pick_run(slug, runs, choice.entry.name)
        found = read_insight(identity)
        if "attention" in found:
            soft.show_keys_run(slug, identity, found)
        else:
            soft.show_run(slug, found)
    else:
        nothing_to_open(slug, "what the encoder makes")
    left, right = st.columns(2, gap="large")
    with left:
        _encoders(choice)
    with right:
        _beside_prefix(choice)


def _encoders(choice: Choice) -> None:
    st.markdown(f"#### The encoder, trained and thrown away {figures.badge(Source.COUNTED)}")
    soft.trained_and_stored(list(_settings(choice)))
    st.markdown(
        f"On {plain(choice.shape.title)}, {choice.values['num_virtual_tokens']} virtual tokens. The encoder exists "
        "only during training: afterwards it is run once, and only its output is stored."
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
        "Version 2 **is** Prefix Tuning without the projection, aimed at classification; PEFT has no class of that "
        "name. On decoders both are one PEFT config. On encoders, where PEFT refuses it, version 2 goes through "
        "transformers' attention function here."
    )
    for reason in reasons:
        st.markdown(f":orange[:material/info: {plain(reason)}]")
