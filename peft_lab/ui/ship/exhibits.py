"""*Answers wrongly*: an adapter that loads without an error; a guess, both answers, and what would have shown it."""

from __future__ import annotations

import html
from collections.abc import Sequence

import streamlit as st

from peft_lab.core import units
from peft_lab.core.units import Source
from peft_lab.runs.spec import RunSpec
from peft_lab.studies.exhibits import OUTCOMES, Exhibit, all_exhibits, ask, outcome
from peft_lab.studies.same_rows import SHIPPED, Answered, adapter_of, recorded, right, wrong_in
from peft_lab.training.marking import marked
from peft_lab.training.tasks.base import Row
from peft_lab.training.tasks.orders import prompt
from peft_lab.ui import state
from peft_lab.ui.components import figures
from peft_lab.ui.components.form import choose
from peft_lab.ui.components.frame import error_line, errors_here
from peft_lab.ui.components.rows import listing
from peft_lab.ui.components.waiting import collect
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.sample import SAMPLE_CSS, pieces_html
from peft_lab.ui.practice.learner import with_next

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
