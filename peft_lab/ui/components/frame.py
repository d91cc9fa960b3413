"""What surrounds every page: the stop of a path that it belongs to, what a teacher has fixed on it, projector mode.

All three travel in the address: ``stop=newcomer.3``, ``fixed=model,r``, ``projector=on``.
"""

from __future__ import annotations

import streamlit as st

from peft_lab.classroom import mode
from peft_lab.classroom.asking import asker
from peft_lab.classroom.limits import limits
from peft_lab.errors import PeftLabError
from peft_lab.ui import state, theme
from peft_lab.ui.foreign import plain
from peft_lab.ui.server import sessions

SCOPE = "frame"
#: In the address that the line of :mod:`peft_lab.ui.classroom.bar` opens, and gone once that was read.
SHOWN = "shown"
# Who practises is no setting of a page: a stop must not make it somebody else.
_KEPT = ("profile",)
_ARRIVED = "arrived"
_IN_A_LINE, _FIRST = 5, 3  # names of fixed settings: as many as a line holds, and of more the first


def enter(page: str, lockable: bool) -> bool:
    """Read what the address says about the surroundings, before the page is drawn.

    Args:
        lockable: whether the page shows fixed settings as locked; on others ``fixed`` says nothing.

    A second press may end this run at any of its steps, and the page is drawn from the beginning: what says that
    something is still to be read goes last.

    Returns:
        whether a stop has just been arrived at, and its progress is to be noted (:func:`noted`).
    """
    state.enter(page)
    address = st.query_params.to_dict()
    # A learner who was on the page before sees what the teacher shows, not what they had set themselves.
    shown = address.pop(SHOWN, None) is not None
    if not state.remembered(SCOPE, "entered", False):
        state.carry("projector", "on" if address.get("projector") == "on" else "")
        state.remember(SCOPE, "entered", True)
    arrived = address.get("stop", "") not in ("", state.carried().get("stop"))
    fixed = _fixed(address) if lockable else {}
    if arrived or shown or (fixed and fixed != state.fixed_on(page)):
        state.begin_afresh(page, _KEPT)
        state.fix(page, fixed)
    if arrived:
        state.remember(SCOPE, _ARRIVED, True)
        state.carry("stop", address["stop"])
    if shown:
        st.query_params.pop(SHOWN, None)
    return bool(state.remembered(SCOPE, _ARRIVED, False))


def noted() -> None:
    """The stop that was arrived at is written down, or there is nothing to write."""
    state.remember(SCOPE, _ARRIVED, False)


def _fixed(address: dict[str, str]) -> dict[str, str]:
    """The settings that the address fixes; a name without a value fixes nothing."""
    names = address.get("fixed", "").split(",")
    return {name: address[name] for name in names if name in address}


def leave_path() -> None:
    """No page belongs to a stop any more."""
    state.carry("stop", "")
    st.query_params.pop("stop", None)


def unlock(page: str) -> None:
    """The learner goes on freely on this page."""
    state.fix(page, {})
    st.query_params.pop("fixed", None)


def locked_note(page: str, labels: dict[str, str]) -> None:
    """Says what is fixed on the page, and offers to go on freely."""
    fixed = state.fixed_on(page)
    if not fixed:
        return
    more = len(fixed) - _FIRST if len(fixed) > _IN_A_LINE else 0
    with st.container(horizontal=True, vertical_alignment="center", key="locked-note"):
        line = ", ".join(labels.get(name) or plain(name) for name in [*fixed][: len(fixed) - more])
        st.markdown(f":material/lock: **Set by the teacher:** {line}{'' if more else '.'}", width="content")
        if more:
            with st.popover(f"and {more} more", type="tertiary", key="locked-names"):
                st.markdown("\n".join(f"- {labels.get(name) or plain(name)}" for name in fixed))
        if st.button("Unlock these settings", icon=":material/lock_open:", type="tertiary"):
            unlock(page)
            st.rerun()


def projecting() -> bool:
    return state.carried().get("projector") == "on"


def projector_style() -> None:
    if projecting():
        st.html(theme.PROJECTOR)


def way_out() -> None:
    """In a class: how the next person gets this browser. Who signed in can come back, who gave a code cannot."""
    if not mode.on() or projecting():
        return
    who = asker()
    if who is None:
        return
    with st.sidebar:
        if who.login and st.button("Sign out", icon=":material/logout:", type="tertiary", key="sign-out"):
            st.logout()
        if not who.login and st.button("Leave", icon=":material/logout:", type="tertiary", key="leave"):
            _leave()


@st.dialog("Leave this class in this browser?")
def _leave() -> None:
    st.markdown(
        "Leave if somebody else uses this browser after you. What you trained, uploaded and answered here stays for "
        f"your teacher, for {limits().days} days, but **you cannot get back to it**: this browser's cookie is the only "
        "key to it, and it is thrown away. Download first what you want to keep: a run's *Take away* tab, and *Files* "
        "on *Practice*."
    )
    yes, no = st.columns(2)
    yes.button("Leave for good", type="primary", width="stretch", key="leave-for-good", on_click=_left)
    if no.button("Stay", width="stretch", key="stay"):
        st.rerun()
    refused = state.scope(SCOPE).pop("stays", None)
    if refused is not None:
        st.error(plain(refused))


def _left() -> None:
    """For ``on_click``: heard even when the page is drawn anew before it comes to the button."""
    try:
        sessions.leave()
    except PeftLabError as error:
        state.remember(SCOPE, "stays", str(error))


def projector_switch() -> None:
    """The switch in the side bar; in projector mode, where that is hidden, a button at the foot of the page."""
    if not projecting():
        with st.sidebar:
            pressed = st.button(
                "Projector mode", icon=":material/present_to_all:", type="tertiary", key="project"
            )
    else:
        pressed = st.button(
            "Leave projector mode", icon=":material/close_fullscreen:", type="tertiary", key="unproject"
        )
    if pressed:
        state.carry("projector", "" if projecting() else "on")
        st.query_params.pop("projector", None)
        st.rerun()
