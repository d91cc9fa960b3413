"""One claim: what it says, what is found, the verdict, why, and on which models it holds."""

from __future__ import annotations

from concurrent.futures import Future

import streamlit as st

from peft_lab.claims import ask
from peft_lab.claims.base import VERDICTS, Claim, Found, Verdict
from peft_lab.claims.kept import found as kept_result
from peft_lab.claims.kept import taken
from peft_lab.claims.overall import on_all, overall
from peft_lab.errors import PeftLabError
from peft_lab.models.catalogue import get_model
from peft_lab.ui import state
from peft_lab.ui.components import figures
from peft_lab.ui.components.waiting import come_back
from peft_lab.ui.foreign import plain
from peft_lab.units import Source
from peft_lab.workers import inspector

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
    """The verdict on the claim as it stands; ``None`` where its experiment has neither been kept nor run here."""
    if claim.needs == "torch":
        known = kept_result(claim.id) or _answered(claim, None)
        return None if known is None else known.verdict
    return overall(claim, claim.on()).verdict


def card(claim: Claim, model: str | None, opened: bool, hidden: str = "") -> bool:
    """Draw one claim, ``opened`` at first; whether it is open. Only an open one is checked.

    ``hidden``: what stands in the place of a verdict that is still to be guessed.
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
        st.markdown(f"**It says** “{plain(claim.quote)}”")
        found = found_on(claim, model)
        if found is not None:
            finding(claim, found, model)
    return True


def finding(claim: Claim, found: Found, model: str | None) -> None:
    cited = f" {found.cited}. {figures.badge(Source.CITED)}" if found.cited else ""
    st.markdown(f"**We find** {found.found}. {figures.badge(claim.source)}{cited}")
    name = model or claim.model
    all_found = on_all(claim.id)
    if name is not None and (len(all_found) > 1 or model is not None):
        everywhere = verdict_of(claim)
        beside = (
            f" · over all models: {BADGES[everywhere]}"
            if everywhere is not None and everywhere != found.verdict
            else ""
        )
        st.markdown(f"On {plain(get_model(name).title)}: {BADGES[found.verdict]}{beside}")
    st.markdown(found.why)
    st.markdown(f":small[How: {claim.how}.]")
    if len(all_found) > 1:
        counts = {
            verdict: sum(each.verdict == verdict for each in all_found.values()) for verdict in VERDICTS
        }
        counted = ", ".join(f"{verdict} on {count}" for verdict, count in counts.items() if count)
        st.markdown(
            f"**When does it hold?** Of {len(all_found)} models: {counted}. {figures.badge(claim.source)}"
        )
        rows = [(get_model(each).title, there.found, there.verdict) for each, there in all_found.items()]
        figures.table(("Model", "Found", "Verdict"), rows)
    elif claim.needs == "torch" and claim.model is not None and model is None:
        st.markdown(":small[Choose a model above to run it there.]")


def found_on(claim: Claim, model: str | None, where: str = "card") -> Found | None:
    """What is found, waited for briefly where it has to be run. ``where`` tells the button apart from that of
    the same claim elsewhere on the page."""
    if claim.needs == "shape":
        return claim.on(model)
    again_key = f"facts-again-{claim.id}"
    first = model in (None, claim.model)
    if first and not st.session_state.get(again_key):
        known = kept_result(claim.id)
        if known is not None:
            if st.button(
                "Run it now", key=f"{again_key}-{where}", help="The result shown is from an earlier run."
            ):
                st.session_state[again_key] = True
                st.rerun()
            st.markdown(f":small[{_kept_from()}]")
            return known
    asked = _ask(claim, None if first else model)
    try:
        return asked.result(timeout=PATIENCE)
    except TimeoutError:
        st.markdown("Running…")
        come_back([asked])
    except PeftLabError as error:
        st.markdown(f":red[:material/error: {plain(error)}]")
    return None


def _ask(claim: Claim, model: str | None) -> Future[Found]:
    asked: Future[Found] = inspector.get_inspector(inspector.Worker.CLAIMS).submit(ask.found, claim.id, model)
    st.session_state.setdefault(_RUN, {})[(claim.id, model)] = asked
    return asked


def _answered(claim: Claim, model: str | None) -> Found | None:
    """The answer, if the claim was run in this server already."""
    asked = st.session_state.setdefault(_RUN, {}).get((claim.id, model))
    return asked.result() if asked is not None and asked.done() and not asked.exception() else None


def _kept_from() -> str:
    """How a kept result was found, and what is otherwise here."""
    other = ", ".join(f"{name} {version}" for name, version in taken().differing().items())
    here = (
        f"Installed here: {other}. Press *Run it now* to see whether it still holds."
        if other
        else "Press *Run it now* to repeat it."
    )
    return f"From a run of {taken()}. {here}"
