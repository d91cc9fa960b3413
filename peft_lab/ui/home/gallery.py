"""The methods side by side: what each adds to a block, and how many parameters it trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from peft_lab import units
from peft_lab.methods import all_methods
from peft_lab.methods.base import MethodSpec
from peft_lab.models.catalogue import ModelEntry, catalogue
from peft_lab.ui import pages
from peft_lab.ui.components import figures
from peft_lab.ui.components.thumb import thumb
from peft_lab.ui.foreign import plain


def gallery() -> None:
    slugs = pages.method_pages()
    st.markdown(f"## {units.in_words(len(slugs)).capitalize()} methods, each on frozen models")
    with st.container(key="gallery"):
        for slug in slugs:
            with st.container(border=True, key=f"gallery-{slug}", gap="xsmall"):
                _card(all_methods()[slug])
    st.markdown(
        "Trainable parameters of each method at its default settings, and their share of the model. They come from "
        "each method's formula; automated tests check that it agrees with a count on the model. "
        f"{figures.badge('counted')}"
    )


def live_models() -> list[ModelEntry]:
    """Those that are trained here."""
    return [entry for entry in catalogue().values() if entry.live]


def share(spec: MethodSpec, entry: ModelEntry, values: Mapping[str, Any] | None = None) -> float:
    """Percent of the model with the method that is trained; at the method's defaults but for ``values``."""
    formula = spec.formula(entry.shape, spec.complete(entry.shape, values or {}))
    return 100 * formula.trainable / (entry.parameters + formula.added)


def _card(spec: MethodSpec) -> None:
    applies = [entry for entry in live_models() if _refusal(spec, entry) is None]
    if applies:
        entry = max(applies, key=lambda entry: entry.parameters)
        thumb(spec, entry.shape, spec.complete(entry.shape, {}), key=f"thumb-{spec.slug}")
    st.page_link(
        pages.page(spec.slug, spec.title), label=f"**{spec.title}**", icon=":material/arrow_forward:",
        icon_position="right",
    )  # fmt: skip
    st.markdown(f":small[{spec.summary}]")
    for entry in live_models():
        with st.container(gap=None):
            st.markdown(f":small[{entry.title}]")
            why = _refusal(spec, entry)
            if why is not None:
                st.markdown("does not apply", help=plain(why))
                continue
            trained = spec.formula(entry.shape, spec.complete(entry.shape, {})).trainable
            st.markdown(f"**{units.count(trained)}** :small[{units.percent(share(spec, entry))}]")


def _refusal(spec: MethodSpec, entry: ModelEntry) -> str | None:
    """Why the method does not apply at its defaults."""
    problems = spec.problems(entry.shape, {})
    return next((problem.message for problem in problems if problem.level == "error"), None)
