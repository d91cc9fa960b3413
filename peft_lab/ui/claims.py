"""Fact check: every claim with its verdict and the finding behind it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import cast

import streamlit as st

from peft_lab.ask.form import Form, choice
from peft_lab.core.units import Source
from peft_lab.interview import claims
from peft_lab.interview.claims import (
    VERDICTS,
    Claim,
    Found,
    Verdict,
    all_claims,
    kept_result,
    on_all,
    overall,
    result_seconds,
)
from peft_lab.interview.question import topics
from peft_lab.models.catalogue import get_model, readers_of_text
from peft_lab.ui import pages, state, web
from peft_lab.ui.components import figures
from peft_lab.ui.components.form import Controls
from peft_lab.ui.components.waiting import shown
from peft_lab.ui.foreign import plain
from peft_lab.workers import inspector

# ----------------------------------------
# One claim: what it says, what is found, the verdict, why, and on which models it holds.


BADGES: dict[str, str] = {
    "right": ":green-badge[:material/check: right]",
    "imprecise": ":orange-badge[:material/tune: imprecise]",
    "wrong": ":red-badge[:material/close: wrong]",
}
NOT_RUN = ":gray-badge[not run yet]"
PATIENCE = 1.0  # seconds
SCOPE = "fact_check"  # the page's name, under which it is begun afresh
_RUN = "facts-run"


def verdict_of(claim: Claim) -> Verdict | None:
    """Return the claim's current verdict; None if its experiment was neither stored nor run here."""
    if claim.needs == "torch":
        known = kept_result(claim.id) or _answered(claim, None)
        return None if known is None else known.verdict
    return overall(claim, claim.on()).verdict


def card(claim: Claim, model: str | None, opened: bool, hidden: str = "") -> bool:
    """Draw one claim, ``opened`` at first; return whether it is open. Only open claims are checked.

    ``hidden``: text in place of the verdict while it is still to be guessed.
    """
    verdict = verdict_of(claim)
    badge = f":gray-badge[{hidden}]" if hidden else NOT_RUN if verdict is None else BADGES[verdict]
    key = state.widget_key(SCOPE, f"card-{claim.id}")
    drawn = st.expander(
        f"{badge} {claim.claim}", expanded=state.first_default(key, opened), key=key, on_change="rerun"
    )
    if not drawn.open:
        return False
    with drawn:
        st.markdown(f"**The claim:** “{plain(claim.quote)}”")
        found = found_on(claim, model)
        if found is not None:
            finding(claim, found, model)
    return True


def finding(claim: Claim, found: Found, model: str | None) -> None:
    cited = f" {found.cited}. {figures.badge(Source.CITED)}" if found.cited else ""
    st.markdown(f"**What we found:** {found.found}. {figures.badge(claim.source)}{cited}")
    name = model or claim.model
    all_found = on_all(claim.id)
    if name is not None and (len(all_found) > 1 or model is not None):
        everywhere = verdict_of(claim)
        beside = (
            f"; over all models: {BADGES[everywhere]}"
            if everywhere is not None and everywhere != found.verdict
            else ""
        )
        st.markdown(f"On {plain(get_model(name).title)}: {BADGES[found.verdict]}{beside}")
    st.markdown(found.why)
    st.markdown(f":small[Method: {claim.how}.]")
    if len(all_found) > 1:
        counts = {
            verdict: sum(each.verdict == verdict for each in all_found.values()) for verdict in VERDICTS
        }
        counted = ", ".join(f"{verdict} on {count}" for verdict, count in counts.items() if count)
        st.markdown(
            f"**On which models does it hold?** Of {len(all_found)} models: {counted}. {figures.badge(claim.source)}"
        )
        rows = [(get_model(each).title, there.found, there.verdict) for each, there in all_found.items()]
        figures.table(("Model", "Result", "Verdict"), rows)
    elif claim.needs == "torch" and claim.model is not None and model is None:
        st.markdown(":small[Choose a model above to check the claim on it.]")


def found_on(claim: Claim, model: str | None, where: str = "card") -> Found | None:
    """Return a claim's finding, waiting briefly if it must be run. ``where`` keeps widget keys apart."""
    if claim.needs == "shape":
        return claim.on(model)
    again_key = f"facts-again-{claim.id}"
    first = model in (None, claim.model)
    if first and not st.session_state.get(again_key):
        known = kept_result(claim.id)
        if known is not None:
            if st.button(
                "Run it now", key=f"{again_key}-{where}", help="Replace the stored result by a new one."
            ):
                st.session_state[again_key] = True
                st.rerun()
            st.markdown(f":small[{_kept_from()}]")
            return known
    asked = _ask(claim, None if first else model)
    return shown(asked, lambda found: found, "Running…", patience=PATIENCE, where=f"{claim.id}-{where}")


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


def _kept_from() -> str:
    """Return where a stored result is from, and which installed versions differ."""
    other = ", ".join(f"{name} {version}" for name, version in result_seconds().differing().items())
    here = (
        f"This computer has {other}; press *Run it now* to check the claim with these versions."
        if other
        else "Press *Run it now* to repeat it."
    )
    return f"Stored result of {result_seconds()}. {here}"


# ----------------------------------------
# One claim in front, with a guess before its verdict; the guesses are kept for the session.


# not the page's: they stay when it is begun afresh
GUESS_SCOPE = "claims-guessed"
_GUESSES, _FEATURED = "guesses", "featured"


def guesses() -> dict[str, Verdict]:
    """Return the learner's guesses so far, by claim."""
    return cast(dict[str, Verdict], state.scope(GUESS_SCOPE).setdefault(_GUESSES, {}))


def featured(claims: Sequence[Claim], model: str | None) -> str:
    """Draw a claim to guess; return its id until its verdict is guessed, else an empty text."""
    settled = [claim for claim in claims if verdict_of(claim) is not None]
    if not settled:
        return ""
    claim = _chosen(settled)
    guess = guesses().get(claim.id)
    with st.container(border=True, key="featured-claim"):
        st.markdown(f"### {plain(claim.claim)}")
        st.markdown(f"**The claim:** “{plain(claim.quote)}”")
        if guess is None:
            st.markdown("Is the claim right, imprecise or wrong? Decide first, then see our result.")
            with st.container(horizontal=True):
                for verdict in VERDICTS:
                    if st.button(verdict.capitalize(), key=f"guess-{verdict}"):
                        guesses()[claim.id] = verdict
                        st.rerun()
            return claim.id
        _settled(claim, guess, model)
        if len(guesses()) < len(settled) and st.button("Next claim", icon=":material/arrow_forward:"):
            state.remember(GUESS_SCOPE, _FEATURED, "")
            st.rerun()
    return ""


def _chosen(claims: Sequence[Claim]) -> Claim:
    """Return the featured claim; if it was dismissed or filtered out, the next one without a guess."""
    known = {claim.id: claim for claim in claims}
    identity = str(state.remembered(GUESS_SCOPE, _FEATURED, ""))
    if identity not in known:
        identity = next((each for each in known if each not in guesses()), claims[0].id)
        state.remember(GUESS_SCOPE, _FEATURED, identity)
    return known[identity]


def _settled(claim: Claim, guess: Verdict, model: str | None) -> None:
    found = found_on(claim, model, "featured")
    if found is None:
        return
    hit = "Correct" if guess == found.verdict else "Not quite"
    st.markdown(f"{hit}: the claim is {BADGES[found.verdict]}; you chose {guess}.")
    finding(claim, found, model)


ALL = "all"
OWN = "own"  # each claim's own model


@dataclass(frozen=True)
class ClaimsForm(Form):
    """The filters of the claims, and their display."""

    origin: str = choice(
        ALL, "Source", "", {ALL: "All", "text": "A widely read answer", "saying": "Common saying"}
    )
    verdict: str = choice(
        ALL, "Verdict", "", {ALL: "All verdicts"} | {verdict: verdict.capitalize() for verdict in VERDICTS}
    )
    topic: str = choice(
        ALL, "Topic", "",
        lambda: {ALL: "All topics"} | {one.topic: topics()[one.topic] for one in all_claims().values()},
    )  # fmt: skip
    model: str = choice(
        OWN, "Check on", "",
        lambda: {OWN: "Each claim's own model"} | {name: one.title for name, one in readers_of_text().items()},
    )  # fmt: skip
    hide: str = choice("no", "Hide verdicts", "", {"no": "no", "yes": "yes"})
    claim: str = choice("", "Open claim", "", lambda: {"": ""} | {name: name for name in all_claims()})

    @property
    def checked_on(self) -> str | None:
        """Return the chosen model; ``None`` for each claim's own."""
        return None if self.model == OWN else self.model

    def select(self) -> list[Claim]:
        """Return the claims that match the filters; with a model, only those that can be checked on it."""
        found = [
            claim
            for claim in all_claims().values()
            if self.origin in (ALL, claim.origin)
            and self.topic in (ALL, claim.topic)
            and self.verdict in (ALL, verdict_of(claim))
        ]
        if self.checked_on is None:
            return found
        shape = get_model(self.model).shape
        return [claim for claim in found if claim.model is not None and claim.fits(shape)]


def form_controls() -> Controls[ClaimsForm]:
    """Return the page's controls, not yet drawn."""
    return Controls(ClaimsForm, SCOPE)


def fact_check_page() -> None:
    """Draw the page."""
    pages.open_page()
    form = form_controls()
    form.read_address()
    st.title("Fact check")
    st.markdown(
        "Claims from a widely read answer on PEFT, and other common claims, **checked by code**: "
        "counted, simulated, measured, or looked up. Change the model to see when a claim holds."
    )
    with st.container(key="claim-controls"):
        _controls(form)
    chosen = form.form()
    claims, hide = chosen.select(), chosen.hide == "yes"
    if chosen.checked_on is not None:
        left_out = len(replace(chosen, model=OWN).select()) - len(claims)
        if left_out:
            title = get_model(chosen.model).title
            st.caption(
                f"Not shown: {left_out} claims that are about no model or cannot be checked on {plain(title)}."
            )
    _tally(claims, hide)
    opened, model = chosen.claim, chosen.checked_on
    guessed_at = featured(claims, model)
    for topic in dict.fromkeys(claim.topic for claim in claims):
        st.markdown(f"### {plain(topics()[topic])}")
        with st.container(key=f"claims-{topic}"):
            for claim in claims:
                hidden = "decide above" if claim.id == guessed_at else "hidden" if hide else ""
                if claim.topic == topic and card(claim, model, opened == claim.id, hidden):
                    opened = claim.id
    if not claims:
        st.markdown("No claim matches. Choose another verdict or topic.")
    form.remember("claim", opened)
    state.write_address(form.address())


def _controls(form: Controls[ClaimsForm]) -> None:
    for cell, name in zip(st.columns(4), ("origin", "verdict", "topic", "model"), strict=True):
        form.draw(name, cell)
    hidden = st.toggle(
        "Hide verdicts",
        form.value("hide") == "yes",
        key=form.key("hide"),
        help="Lets a class decide first: a claim shows its verdict when you open it.",
    )
    form.remember("hide", "yes" if hidden else "no")
    for name in ("hide", "claim"):
        form.below(name)


def _tally(claims: Sequence[Claim], hide: bool) -> None:
    if hide:
        st.markdown(f"{len(claims)} claims")
        return
    verdicts: list[Verdict | None] = [verdict_of(claim) for claim in claims]
    counts = [f"{BADGES[verdict]} {verdicts.count(verdict)}" for verdict in VERDICTS]
    if verdicts.count(None):
        counts.append(f"not run yet: {verdicts.count(None)}")
    st.markdown(f"{len(claims)} claims:  " + "  ".join(counts))


# ----------------------------------------
# How the cards of the claims lie on the page.


#: In the page that the browser loads (:mod:`peft_lab.ui.shell.dress`).
# Closed ones lie side by side, an open one takes the whole width. Of the page only the lists of cards are called so.
CLAIMS_CSS = web.read("claims.css")
