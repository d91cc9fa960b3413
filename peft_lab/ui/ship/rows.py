"""*Same answers?*: the same held-out rows answered by an adapter beside its base and merged in several precisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

import streamlit as st

from peft_lab.core import units
from peft_lab.core.errors import BadInput
from peft_lab.core.units import Source
from peft_lab.runs.spec import RunSpec
from peft_lab.studies import exhibits, same_rows
from peft_lab.studies.same_rows import ROWS, SHIPPED, WAYS, Answered, Difference, reference, ways_here
from peft_lab.ui import state
from peft_lab.ui.components import figures
from peft_lab.ui.components.frame import error_line, errors_here
from peft_lab.ui.components.waiting import come_back, look
from peft_lab.ui.foreign import plain

SCOPE = "same-rows"
_HEADER = ("How it is used", "Right", "Equal to unmerged", "First token that differs", "Time")


def same_answers(run: str) -> None:
    """Draw the recorded answers, and those of the learner's own run; ``run``: its id, empty without one."""
    recorded = same_rows.recorded()
    on = recorded["machine"]
    st.markdown(f"### The same {ROWS} orders, in {len(WAYS)} ways {figures.badge(Source.MEASURED)}")
    _compared(recorded["spec"], recorded["answers"], recorded["apart"])
    st.caption(
        f"Recorded on {recorded['recorded'][:10]}, {on['processor']}, {on['cores']} cores at a load of {on['load']}. "
        "An answer is right if all fields of the JSON are right. bitsandbytes made int8 and NF4, and the gguf "
        "package made q4_0; the output layer is not quantised. Merging into 4 bits loses part of the tuning: [peft "
        "2321](https://github.com/huggingface/peft/issues/2321), [peft "
        "2105](https://github.com/huggingface/peft/issues/2105). Engines (times include loading): "
        + "; ".join(f"{one['package']}, {one['recorded'][:10]}" for one in recorded["engines"].values())
    )
    with errors_here():
        if run:
            _own(run)
        else:
            st.markdown("Train LoRA on *Orders to JSON* to see the same table for your own adapter.")


def _own(run: str) -> None:
    """Draw what the run has answered; while it goes on, one way after another is asked, and the page comes back."""
    try:
        spec, _ = same_rows.adapter_of(run)
    except BadInput as refusal:  # about the chosen run; the recorded answers above are still shown
        st.markdown(f"**Your run.** {plain(str(refusal))}")
        return
    title = st.empty()
    ways = ways_here()
    begun, going = state.remembered(SCOPE, "begun", 0, run), state.remembered(SCOPE, "going", False, run)
    looks = {way: look(exhibits.ask(run, way)) for way in list(ways)[:begun]}
    if going and begun < len(ways) and all(one.answer is not None for one in looks.values()):
        looks |= {(way := list(ways)[begun]): look(exhibits.ask(run, way))}
        state.remember(SCOPE, "begun", begun + 1, run)
    found = {way: one.answer for way, one in looks.items() if one.answer is not None}
    title.markdown(
        f"### {'Here, now' if run == SHIPPED else 'Your run'} {figures.badge(Source.MEASURED) if found else ''}"
    )
    error = next((one.error for one in looks.values() if one.error is not None), None)
    if error is not None:
        error_line(error)
        going = False
    if going and len(found) < len(ways):
        st.progress(len(found) / len(ways), text=f"{ways[[*looks][-1]].title}…")
    if len(found) < len(ways):
        label, icon = ("Stop", "stop") if going else ("Answer the orders here", "play_arrow")
        if st.button(label, icon=f":material/{icon}:", key="same-rows-go"):
            state.remember(SCOPE, "going", not going, run)
            st.rerun()
    if found:
        apart = {
            way: same_rows.differences(spec.model, one, found[reference(way)]) for way, one in found.items()
        }
        _compared(spec, found, apart)
    come_back(*looks.values())


def _compared(spec: RunSpec, ways: Mapping[str, Answered], apart: Mapping[str, Sequence[Difference]]) -> None:
    lines = []
    for way in [way for way in WAYS if way in ways]:
        first = "none"
        if apart[way]:
            at = apart[way][0]
            first = f"order {at.row + 1}, token {at.token + 1}: “{at.wanted}” became “{at.written}”"
        right, equal = same_rows.right(same_rows.rows_of(spec), ways[way]), ROWS - len(apart[way])
        counts = (f"{right} of {ROWS}", f"{equal} of {ROWS}")
        lines.append((WAYS[way].title, *counts, first, units.seconds(ways[way].seconds)))
    figures.table(_HEADER, lines, numeric=(1, 2, 4), fold=True)
    strips = "".join(_strip(WAYS[way].title, one) for way, one in ways.items() if way in WAYS and one.lost)
    if strips:
        st.markdown(
            "**Share of ΔW below half a rounding step, by layer.** If the base is already stored in the rounded "
            "form, rounding removes this share of ΔW. If the merged weights are rounded once at the end, as with "
            "q4_0, some of this share survives by chance."
        )
        st.html(f'<div class="strips">{strips}</div>')


def _strip(title: str, one: Answered) -> str:
    """Return a row of cells, one for each layer, as dark as the share of its ΔW that is below half a step."""
    cells = "".join(
        f'<i style="--share:{share:.0%}" title="layer {layer}: {units.percent(100 * share)}"></i>'
        for layer, share in enumerate(one.lost)
    )
    label = f"{title}: {units.percent(100 * fmean(one.lost))}"
    return f'<p>{label}</p><div role="img" aria-label="{label} of ΔW, by layer">{cells}</div>'
