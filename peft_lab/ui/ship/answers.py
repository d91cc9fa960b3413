"""*Same answers?* and *Answers wrongly*: the same held-out rows answered by an adapter beside its base, merged in
several precisions, and broken in ways that load without an error; guess first."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from statistics import fmean

import streamlit as st

from peft_lab.core import units
from peft_lab.core.errors import BadInput
from peft_lab.core.units import Source
from peft_lab.runs.spec import RunSpec
from peft_lab.studies import exhibits as studied
from peft_lab.studies import same_rows
from peft_lab.studies.exhibits import OUTCOMES, Exhibit, all_exhibits, ask, outcome
from peft_lab.studies.same_rows import (
    ROWS,
    SHIPPED,
    WAYS,
    Answered,
    Difference,
    adapter_of,
    recorded,
    reference,
    right,
    ways_here,
    wrong_in,
)
from peft_lab.training.marking import marked
from peft_lab.training.tasks.base import Row
from peft_lab.training.tasks.orders import prompt
from peft_lab.ui import state
from peft_lab.ui.components import figures
from peft_lab.ui.components.form import choose
from peft_lab.ui.components.frame import error_line, errors_here
from peft_lab.ui.components.rows import listing
from peft_lab.ui.components.waiting import collect, come_back, look
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.sample import SAMPLE_CSS, pieces_html
from peft_lab.ui.practice.learner import with_next

ROWS_SCOPE = "same-rows"
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
    begun, going = (
        state.remembered(ROWS_SCOPE, "begun", 0, run),
        state.remembered(ROWS_SCOPE, "going", False, run),
    )
    looks = {way: look(studied.ask(run, way)) for way in list(ways)[:begun]}
    if going and begun < len(ways) and all(one.answer is not None for one in looks.values()):
        looks |= {(way := list(ways)[begun]): look(studied.ask(run, way))}
        state.remember(ROWS_SCOPE, "begun", begun + 1, run)
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
            state.remember(ROWS_SCOPE, "going", not going, run)
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


SCOPE = "exhibits"
_NAMES = (
    "`trained` and `shipped`: the tensors of both files (`safetensors.torch.load_file`); `base` and `published`: the "
    "weights that are served and the weights used in training; `model`: the model that answers; `trained_…`: as in "
    "training."
)


def exhibits(run: str) -> None:
    """Draw one exhibit; ``run``: the id of the learner's own run, empty without one."""
    known, recording, mine = all_exhibits(), recorded(), run or SHIPPED
    titles = {name: f"{n}. {one.title}" for n, (name, one) in enumerate(known.items(), 1)}
    st.markdown("### Loads without an error but answers wrongly")
    with st.container(border=True, key="exhibit"), errors_here():
        one = known[with_next(SCOPE, "exhibit", f"{len(known)} exhibits", titles, next(iter(known)))]
        st.markdown(plain(one.done))
        mine = SHIPPED if one.mixture else mine
        guess = state.remembered(SCOPE, "guess", None, one.id)
        names = (one.healthy, one.id)
        if guess is None:
            _guess(one)
        elif state.remembered(SCOPE, "live", False, one.id, mine):
            live = collect({name: ask(mine, name) for name in names})
            for message in live.refused.values():
                error_line(message)
            if live.waiting:
                st.markdown("Answering the rows without the change and with it…")
            elif not live.refused:
                _seen(one, adapter_of(mine)[0], [live.found[name] for name in names], guess)
        else:
            _seen(one, recording["spec"], [recording["answers"][name] for name in names], guess)
            st.caption(f"Recorded on {recording['recorded'][:10]}, {recording['machine']['processor']}.")
            label = "Run it here" if mine == SHIPPED else "Run it with my adapter"
            if st.button(label, icon=":material/play_arrow:", key="exhibit-live"):
                state.remember(SCOPE, "live", True, one.id, mine)
                st.rerun()


def _guess(one: Exhibit) -> None:
    with st.form(f"exhibit-{one.id}", border=False):
        guess = st.radio(
            "What does it answer?", list(OUTCOMES), index=None, format_func=OUTCOMES.__getitem__,
            key=state.widget_key(SCOPE, "option", one.id),
        )  # fmt: skip
        pressed = st.form_submit_button("Check my guess", type="primary")
    if pressed and guess is None:
        st.markdown(":red[:material/edit: Choose an answer first.]")
    elif pressed:
        state.remember(SCOPE, "guess", guess, one.id)
        st.rerun()


def _seen(one: Exhibit, spec: RunSpec, answers: Sequence[Answered], guess: str) -> None:
    """Draw the answers to one row, without the change and with it, and how the difference shows."""
    rows, (before, after) = one.rows(spec), answers
    spoilt = [n for n, text in enumerate(after.answers) if text != before.answers[n]] or [0]
    spoilt.sort(key=lambda n: wrong_in(after.answers[n], rows[n]))
    came = outcome(rows, before, after)
    told = "Your guess is right" if guess == came else f"You guessed: {OUTCOMES[guess].lower()}"
    without, with_it = (f"{right(rows, seen)} of {len(rows)}" for seen in answers)
    st.markdown(
        f"**{OUTCOMES[came]}.** {told}. Right without the change: {without}; with it: {with_it}. "
        f"{figures.badge(Source.MEASURED)}"
    )
    titles = {n: f"{n + 1}. {row.text.removesuffix(prompt(''))}" for n, row in enumerate(rows)}
    number = choose(SCOPE, "row", "Question", titles, spoilt[-1], afresh=(one.id,))
    for place, title, seen in zip(st.columns(2, gap="small"), (one.before, one.after), answers, strict=True):
        with place:
            _card(title, seen is after, rows[number], seen.answers[number], seen.ended[number])
    if wrong_in(after.answers[spoilt[0]], rows[spoilt[0]]) < wrong_in(
        after.answers[spoilt[-1]], rows[spoilt[-1]]
    ):
        st.caption(f"The failure is not always this obvious: see “{plain(titles[spoilt[0]])}”")
    st.markdown(f"**How to notice it.** {plain(one.gives_away)}")
    for name, text in {"command": one.command, "check": one.check}.items():
        listing(text, f"exhibit-{name}-{one.id}", 90)
    st.caption(f"{_NAMES} Seen in [{plain(one.source)}]({one.url}).")


def _card(title: str, spoilt: bool, row: Row, answer: str, ended: bool) -> None:
    found, wrong = marked(answer, row.target), wrong_in(answer, row)
    verdict = f"{found.right} of {units.several(found.total, found.unit)} right" if wrong else "All right"
    verdict += "." if ended else ", but it does not stop."
    side, mark = ("bad", "✕") if spoilt else ("good", "✓")
    st.html(
        f'{SAMPLE_CSS}<div class="sample"><div class="answer {side}"><p class="head"><b>{mark} {html.escape(title)}</b>'
        f'</p><p class="order">“{html.escape(row.text.removesuffix(prompt("")))}”</p><p class="text">'
        f'{pieces_html(found)}</p><p class="head"><b>{verdict}</b></p></div></div>'
    )
