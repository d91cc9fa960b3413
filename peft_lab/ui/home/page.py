"""Home: what this is, what is on this machine, and the methods side by side."""

from __future__ import annotations

import streamlit as st

from peft_lab import units
from peft_lab.methods import all_methods
from peft_lab.methods.base import MethodSpec
from peft_lab.models.catalogue import ModelEntry, catalogue
from peft_lab.runs.spec import STEPS
from peft_lab.ui import pages
from peft_lab.ui.components import fetch_again, figures


def home_page() -> None:
    pages.open_page()
    st.title("PEFT Lab")
    st.markdown(
        "Parameter-efficient fine-tuning, **applied live to a real pretrained model on this machine**. Move a knob and "
        "see what is injected and what it costs; press Train and watch it learn."
    )
    fetch_again.offer("home")
    left, right = st.columns([13, 5], gap="medium")
    with left:
        st.markdown(f"### {units.in_words(len(pages.method_pages())).capitalize()} methods, one frozen model")
        _methods()
    with right:
        with st.container(border=True):
            st.markdown("### Start here")
            st.markdown(
                "1. Open **LoRA** and move the rank: the drawing, the count and the formula follow.\n2. On its "
                f"**Train** tab press *Train*. Within {STEPS} steps a model that could not write JSON learns "
                "to.\n3. Click a part of the drawing to see its shapes; then open *Look inside* to see what was "
                "learnt."
            )
            st.page_link(pages.page("lora", "LoRA"), label="Open LoRA", icon=":material/arrow_forward:")
        with st.container(border=True):
            st.markdown("### Where figures come from")
            figures.legend()
    st.markdown("### Models on this machine")
    _models()


def _share(spec: MethodSpec, entry: ModelEntry) -> tuple[str, str | None]:
    """Trained parameters at the method's defaults; or that it does not apply, and why."""
    for problem in spec.problems(entry.shape, {}):
        if problem.level == "error":
            return "does not apply", problem.message
    formula = spec.formula(entry.shape, spec.complete(entry.shape, {}))
    share = 100 * formula.trainable / (entry.parameters + formula.added)
    return f"{units.count(formula.trainable)}  \n:small[{units.percent(share)}]", None


def _methods() -> None:
    live = [entry for entry in catalogue().values() if entry.live]
    widths = [4, 8, *(4 for _ in live)]
    with st.container(key="methods"):
        with st.container(key="methods-head"):
            head = st.columns(widths)
        for cell, text in zip(
            head, ("Method", "What is trained", *(entry.title for entry in live)), strict=True
        ):
            cell.markdown(f"**{text}**")
        for slug in pages.method_pages():
            spec = all_methods()[slug]
            cells = st.columns(widths, vertical_alignment="top")
            cells[0].page_link(pages.page(slug, spec.title), label=f"**{spec.title}**")
            cells[1].markdown(spec.summary)
            for cell, entry in zip(cells[2:], live, strict=True):
                text, why = _share(spec, entry)
                # A phone shows no head: there every figure names its model.
                with cell, st.container(gap=None):
                    with st.container(key=f"narrow-{slug}-{entry.name}"):
                        st.markdown(f":small[{entry.title}]")
                    st.markdown(text, help=why)
    st.markdown(
        "Trainable parameters of each method at its default settings, and their share of the model. They come from "
        "each method's formula; automated tests check that it agrees with a count on the model. "
        f"{figures.badge('counted')}"
    )


def _models() -> None:
    live = [entry for entry in catalogue().values() if entry.live]
    figures.table(
        ("Model", "Type", "Parameters", "Layers", "Width", "Attention heads", "From", "License"),
        [
            (
                entry.title,
                entry.kind,
                units.count(entry.parameters),
                str(entry.shape.num_layers),
                f"{entry.shape.hidden:,}",
                f"{entry.shape.heads} query, {entry.shape.kv_heads} key/value",
                entry.source,
                entry.license,
            )
            for entry in live
        ],
        numeric=(2, 3, 4),
        fold=True,
    )
