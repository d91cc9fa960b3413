"""One claim in front, with a guess before its verdict; the guesses are kept for the session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import streamlit as st

from peft_lab.claims.base import VERDICTS, Claim, Verdict
from peft_lab.ui import state
from peft_lab.ui.claims.card import BADGES, finding, found_on, verdict_of
from peft_lab.ui.foreign import plain

# not the page's: they stay when it is begun afresh
SCOPE = "claims-guessed"
_GUESSES, _FEATURED = "guesses", "featured"


def guesses() -> dict[str, Verdict]:
    """The learner's guesses so far, by claim."""
    found = state.remembered(SCOPE, _GUESSES, None)
    if found is None:
        found = {}
        state.remember(SCOPE, _GUESSES, found)
    return cast(dict[str, Verdict], found)


def featured(claims: Sequence[Claim], model: str | None) -> str:
    """Draw it; the id of the claim whose verdict is still to be guessed, empty for none."""
    settled = [claim for claim in claims if verdict_of(claim) is not None]
    if not settled:
        return ""
    claim = _chosen(settled)
    guess = guesses().get(claim.id)
    with st.container(border=True, key="featured-claim"):
        st.markdown(f"### {plain(claim.claim)}")
        st.markdown(f"**It says** “{plain(claim.quote)}”")
        if guess is None:
            st.markdown("Is that so? Decide first; then see what was found.")
            with st.container(horizontal=True):
                for verdict in VERDICTS:
                    pressed = st.button(verdict.capitalize(), key=f"guess-{verdict}")
                    if pressed:
                        guesses()[claim.id] = verdict
                        st.rerun()
            return claim.id
        _settled(claim, guess, model)
        if len(guesses()) < len(settled) and st.button("Another claim", icon=":material/arrow_forward:"):
            state.remember(SCOPE, _FEATURED, "")
            st.rerun()
    return ""


def _chosen(claims: Sequence[Claim]) -> Claim:
    """The one in front: it stays until another is asked for or the filters leave it out; then the next unguessed."""
    known = {claim.id: claim for claim in claims}
    identity = str(state.remembered(SCOPE, _FEATURED, ""))
    if identity not in known:
        identity = next((each for each in known if each not in guesses()), claims[0].id)
        state.remember(SCOPE, _FEATURED, identity)
    return known[identity]


def _settled(claim: Claim, guess: Verdict, model: str | None) -> None:
    found = found_on(claim, model, "featured")
    if found is None:
        return
    hit = "Yes" if guess == found.verdict else "No"
    st.markdown(f"{hit}: you said {guess}, and it is {BADGES[found.verdict]}")
    finding(claim, found, model)
