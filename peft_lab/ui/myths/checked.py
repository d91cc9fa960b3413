"""A claim that code checks: its verdict, what was found and why, and the check itself, to be run here."""

from __future__ import annotations

import inspect
from collections import Counter
from concurrent.futures import Future

import streamlit as st

from peft_lab.core import inspector
from peft_lab.core.units import Source
from peft_lab.interview import claims
from peft_lab.interview.claims import Claim, kept_result, on_all, overall, result_seconds
from peft_lab.interview.claims.deciding import Decision
from peft_lab.interview.claims.verdicts import VERDICTS, Found, Verdict
from peft_lab.models.catalogue import get_model
from peft_lab.ui.components import figures
from peft_lab.ui.components.rows import listing
from peft_lab.ui.components.waiting import shown
from peft_lab.ui.foreign import plain

_MARKS = {"right": ("green", "check"), "imprecise": ("orange", "tune"), "wrong": ("red", "close")}
PATIENCE = 1.0  # seconds
WIDE = 92  # letters in a line of a check's code
_RUN, _AGAIN = "facts-run", "facts-again"


def badge(verdict: Verdict, lead: str = "") -> str:
    """Return a verdict as a badge in Markdown."""
    colour, icon = _MARKS[verdict]
    return f":{colour}-badge[:material/{icon}: {lead}{verdict}]"


def verdict_of(claim: Claim) -> Verdict | None:
    """Return the claim's current verdict; None if its experiment was neither stored nor run here."""
    if claim.needs == "torch":
        known = kept_result(claim.id) or _answered(claim, None)
        return None if known is None else known.verdict
    return overall(claim, claim.on()).verdict


def finding(claim: Claim, found: Found, model: str | None) -> None:
    """Draw what was found, why, and on which models the claim holds."""
    cited = f" {found.cited}. {figures.badge(Source.CITED)}" if found.cited else ""
    first = found.found[:1]
    found_text = (first.upper() if first.isascii() else first) + found.found[1:]
    st.markdown(f"**{found_text}.** {figures.badge(claim.source)}{cited}")
    name = model or claim.model
    all_found = on_all(claim.id)
    if name is not None and (len(all_found) > 1 or model is not None):
        everywhere = verdict_of(claim)
        differs = everywhere is not None and everywhere != found.verdict
        beside = f"; over all models: {badge(everywhere)}" if everywhere and differs else ""
        st.markdown(f"On {plain(get_model(name).title)}: {badge(found.verdict)}{beside}")
    st.markdown(f"**Why.** {found.why}")
    if len(all_found) > 1:
        counts = Counter(there.verdict for there in all_found.values())
        counted = ", ".join(f"{verdict} on {counts[verdict]}" for verdict in VERDICTS if counts[verdict])
        with st.expander(f"On which models is the claim true? {counted}"):
            rows = [(get_model(each).title, there.found, there.verdict) for each, there in all_found.items()]
            figures.table(("Model", "Result", "Verdict"), rows)
            st.markdown(figures.badge(claim.source))


def experiment(claim: Claim, model: str | None) -> None:
    """Draw how the claim is checked: method and code; a stored result with its origin and a button to run it here."""
    st.markdown("### The experiment that shows it")
    st.markdown(f":small[Method: {claim.how}.]")
    with st.expander("The code that decides"):
        code = claim.check.text if isinstance(claim.check, Decision) else inspect.getsource(claim.check)
        listing(code.strip(), f"check-{claim.id}", WIDE)
    if claim.needs == "torch" and model in (None, claim.model) and kept_result(claim.id) is not None:
        again = f"{_AGAIN}-{claim.id}"
        if not st.session_state.get(again):
            if st.button("Run it here", key=f"{again}-button", icon=":material/play_arrow:"):
                st.session_state[again] = True
                st.rerun()
            st.markdown(f":small[{_origin()}]")


def found_on(claim: Claim, model: str | None) -> Found | None:
    """Return a claim's finding; None while its check runs, when the page refreshes itself."""
    if claim.needs == "shape":
        return claim.on(model)
    first = model in (None, claim.model)
    if first and not st.session_state.get(f"{_AGAIN}-{claim.id}"):
        known = kept_result(claim.id)
        if known is not None:
            return known
    asked = _ask(claim, None if first else model)
    return shown(asked, lambda found: found, "Running…", patience=PATIENCE, where=claim.id)


def _ask(claim: Claim, model: str | None) -> Future[Found]:
    asked: Future[Found] = inspector.get_inspector(inspector.Worker.CLAIMS).submit(
        claims.answer_claim, claim.id, model
    )
    st.session_state.setdefault(_RUN, {})[(claim.id, model)] = asked
    return asked


def _answered(claim: Claim, model: str | None) -> Found | None:
    """Return the claim's result if this session has run it already."""
    asked = st.session_state.setdefault(_RUN, {}).get((claim.id, model))
    return asked.result() if asked is not None and asked.done() and not asked.exception() else None


def _origin() -> str:
    """Return where a stored result is from, and which installed versions differ."""
    other = ", ".join(f"{name} {version}" for name, version in result_seconds().differing().items())
    here = "Press *Run it here* to repeat the check."
    if other:
        here = f"This computer has {other}; press *Run it here* to check the claim with these versions."
    return f"Stored result of {result_seconds()}. {here}"
