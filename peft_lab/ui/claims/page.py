"""Fact check: every claim with its verdict, and the finding that it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from peft_lab.claims import all_claims
from peft_lab.claims.base import VERDICTS, Claim, Verdict
from peft_lab.errors import UnknownName
from peft_lab.models.catalogue import get_model, readers_of_text
from peft_lab.quiz.question import topics
from peft_lab.ui import pages, state
from peft_lab.ui.claims.card import BADGES, SCOPE, card, verdict_of
from peft_lab.ui.claims.featured import featured
from peft_lab.ui.foreign import plain

ALL = "all"
ORIGINS = {ALL: "All", "text": "The source text", "saying": "Often said"}
OWN = "own"  # each claim's own model
DEFAULTS = {"origin": ALL, "verdict": ALL, "topic": ALL, "model": OWN, "hide": "no", "claim": ""}


def fact_check_page() -> None:
    pages.open_page()
    state.read_address(SCOPE, {name: _reader(name) for name in DEFAULTS})
    st.title("Fact check")
    st.markdown(
        "Claims from a widely read answer on PEFT, and other common claims, **checked by code**: "
        "counted, simulated, measured, or looked up. Change the model to see when a claim holds."
    )
    with st.container(key="claim-controls"):
        chosen = _controls()
    claims = _select(chosen)
    hide = chosen["hide"] == "yes"
    _tally(claims, hide)
    opened, model = str(chosen["claim"]), None if chosen["model"] == OWN else str(chosen["model"])
    guessed_at = featured(claims, model)
    for topic in dict.fromkeys(claim.topic for claim in claims):
        st.markdown(f"### {plain(topics()[topic])}")
        with st.container(key=f"claims-{topic}"):
            for claim in claims:
                if claim.topic == topic and card(
                    claim,
                    model,
                    opened == claim.id,
                    hidden="guess above" if claim.id == guessed_at else "hidden" if hide else "",
                ):
                    opened = claim.id
    if not claims:
        st.markdown("No claims match; choose another verdict or topic.")
    state.remember(SCOPE, "claim", opened)
    state.write_address(
        {name: (chosen[name] if name != "claim" else opened, DEFAULTS[name]) for name in DEFAULTS}
    )


def _options(name: str) -> list[str]:
    lists: dict[str, Sequence[str]] = {
        "origin": list(ORIGINS),
        "verdict": (ALL, *VERDICTS),
        "topic": (ALL, *dict.fromkeys(claim.topic for claim in all_claims().values())),
        "model": (OWN, *readers_of_text()),
        "hide": ["no", "yes"],
        "claim": list(all_claims()),
    }
    return list(lists[name])


def _reader(name: str) -> Any:
    def read(text: str) -> None:
        if text not in _options(name):
            raise UnknownName(name, text, _options(name), name)
        state.remember(SCOPE, name, text)

    return read


def _controls() -> dict[str, str]:
    titles: dict[str, dict[str, str]] = {
        "origin": ORIGINS,
        "verdict": {ALL: "Every verdict", **{verdict: verdict.capitalize() for verdict in VERDICTS}},
        "topic": {ALL: "Every topic", **topics()},
        "model": {
            OWN: "Each claim's own model",
            **{name: entry.title for name, entry in readers_of_text().items()},
        },
    }
    words = {"origin": "Who says it", "verdict": "Verdict", "topic": "Topic", "model": "Check on"}
    chosen = {"claim": str(state.remembered(SCOPE, "claim", ""))}
    for cell, name in zip(st.columns(4), words, strict=True):
        options = _options(name)
        index = state.one_of(SCOPE, name, options, DEFAULTS[name])
        with cell:
            chosen[name] = st.selectbox(
                words[name],
                options,
                index,
                key=state.widget_key(SCOPE, name),
                format_func=titles[name].__getitem__,
            )
            problem = state.address_problem(SCOPE, name)
            if problem:
                st.markdown(f":red[:material/link_off: From the address: {plain(problem)}]")
        state.remember(SCOPE, name, chosen[name])
    hidden = st.toggle(
        "Hide verdicts",
        state.remembered(SCOPE, "hide", "no") == "yes",
        key=state.widget_key(SCOPE, "hide"),
        help="For a class that is to guess: a claim's verdict is shown when the claim is opened.",
    )
    chosen["hide"] = "yes" if hidden else "no"
    state.remember(SCOPE, "hide", chosen["hide"])
    problem = state.address_problem(SCOPE, "claim")
    if problem:
        st.markdown(f":red[:material/link_off: From the address: {plain(problem)}]")
    return chosen


def _select(chosen: dict[str, str]) -> list[Claim]:
    """The claims that are asked for; with a model, those that can be checked on it."""
    found = []
    for claim in all_claims().values():
        wanted = (chosen["origin"], chosen["topic"], chosen["verdict"])
        own = (claim.origin, claim.topic, verdict_of(claim))
        if all(each in (ALL, mine) for each, mine in zip(wanted, own, strict=True)):
            found.append(claim)
    if chosen["model"] != OWN:
        shape = get_model(chosen["model"]).shape
        left_out = [claim for claim in found if claim.model is None or not claim.fits(shape)]
        found = [claim for claim in found if claim not in left_out]
        if left_out:
            st.caption(
                f"{len(left_out)} of these claims are not about a model, or cannot be checked on "
                f"{plain(shape.title)}."
            )
    return found


def _tally(claims: Sequence[Claim], hide: bool) -> None:
    if hide:
        st.markdown(f"{len(claims)} claims")
        return
    verdicts: list[Verdict | None] = [verdict_of(claim) for claim in claims]
    counts = [f"{BADGES[verdict]} {verdicts.count(verdict)}" for verdict in VERDICTS]
    if verdicts.count(None):
        counts.append(f"not run yet: {verdicts.count(None)}")
    st.markdown(f"{len(claims)} claims:  " + "  ".join(counts))
