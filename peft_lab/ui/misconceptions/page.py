"""Misconceptions: guess first, run the experiment, see what settles it."""

from __future__ import annotations

import streamlit as st

from peft_lab.core import asking
from peft_lab.interview.predictions import all_predictions, get_prediction
from peft_lab.ui import pages, state
from peft_lab.ui.components import figures
from peft_lab.ui.components.frame import address_line, errors_boxed
from peft_lab.ui.foreign import plain
from peft_lab.ui.practice import learner
from peft_lab.ui.practice.predicting import browse, settled

SCOPE = "misconceptions"


def misconceptions_page() -> None:
    pages.open_page()
    st.title("Misconceptions")
    st.markdown(
        "Common beliefs about parameter-efficient fine-tuning. **Guess first**; then the experiment runs on "
        f"{asking.here()} and its figures decide."
    )
    with errors_boxed():
        state.read_address(SCOPE, {"belief": _take})
        file = learner.learners()
        name = learner.current_learner(file)
        ids = list(all_predictions())
        address_line(SCOPE, "belief")
        shown = browse(ids, SCOPE, file, name)
        _overview(ids, settled(file, name), name)
        state.write_address({"belief": (shown, ids[0])})


def _take(text: str) -> None:
    state.remember(SCOPE, "prediction", get_prediction(text).id)


def _overview(ids: list[str], known: dict[str, dict[str, object]], name: str) -> None:
    st.markdown("## What has been settled")
    right = sum(bool(known[each]["correct"]) for each in ids if each in known)
    seen = sum(each in known for each in ids)
    if not seen:
        st.markdown(f"You have not settled any of the {len(ids)} beliefs yet.")
        return
    st.markdown(
        f"**{seen}** of {len(ids)} beliefs settled, **{right}** of them guessed right. Learner: {plain(name)}."
    )
    rows = []
    for each in ids:
        if each in known:
            prediction = get_prediction(each)
            guess, truth = known[each]["guess"], known[each]["right"]
            assert isinstance(guess, int) and isinstance(truth, int)
            rows.append(
                (
                    prediction.belief,
                    prediction.options[guess],
                    prediction.options[truth],
                    "right" if guess == truth else "wrong",
                )
            )
    figures.table(("Belief", "You guessed", "The experiment said", "Guess"), rows)
