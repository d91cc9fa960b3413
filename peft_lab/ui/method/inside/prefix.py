"""Look inside Prefix Tuning: attention on the prefix, what it costs, and what the projection throws away."""

from __future__ import annotations

import streamlit as st

from peft_lab.core.errors import BadInput
from peft_lab.core.units import Source
from peft_lab.methods.base import Formula
from peft_lab.ui.components import figures
from peft_lab.ui.components.knobs import Choice
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.inside import soft
from peft_lab.ui.runs.shown import finished_of, nothing_to_open, pick_run, read_insight


def show(choice: Choice) -> None:
    slug = choice.spec.slug
    runs = [line for line in finished_of(slug) if read_insight(line.id).get("attention")]
    if runs:
        identity = pick_run(slug, runs, choice.entry.name)
        soft.show_keys_run(slug, identity, read_insight(identity))
    else:
        nothing_to_open(slug, "what the prefix does")
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
    soft.trained_and_stored(rows)
    st.markdown(
        f"With the current settings, on {plain(choice.shape.title)}. The projection's MLP makes the prefix during "
        "training; afterwards it is run once, its output is stored, and the MLP is thrown away."
    )
