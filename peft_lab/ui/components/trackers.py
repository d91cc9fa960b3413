"""What trackers were told of the runs that a page shows together."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from peft_lab.runs.store import Run
from peft_lab.tracking import several
from peft_lab.ui.foreign import plain


def told_to(runs: Sequence[Run]) -> None:
    """One sentence for each tracker that any of the runs goes to."""
    for one in several.summed(runs):
        sentence = plain(one.sentence())
        st.markdown(f":red[:material/error: {sentence}]" if one.failed else f":small[{sentence}]")
