"""Links into exact settings: what a stop's address says, and how a stop's words are shown."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urlencode, urljoin

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from peft_lab.tour.figures import fill, has_figures
from peft_lab.tour.path import Stop
from peft_lab.tour.progress import FIRST
from peft_lab.ui import pages
from peft_lab.ui.components import figures
from peft_lab.ui.foreign import plain
from peft_lab.units import Source


def address(stop: Stop, place: str = "") -> dict[str, str]:
    """What the address of the stop's page has to say; ``place`` is the stop's own name (:func:`place`)."""
    found = dict(stop.settings)
    if stop.fixed:
        found["fixed"] = ",".join(stop.fixed)
    if place:
        found["stop"] = place
    return found


def place(identity: str, index: int) -> str:
    """A stop's name in an address: ``newcomer.3`` is the third one of the newcomer's path."""
    return f"{identity}.{index + 1}"


def read_place(text: str) -> tuple[str, int] | None:
    """The inverse of :func:`place`; ``None`` for anything else."""
    identity, _, number = text.rpartition(".")
    if not identity or not number.isascii() or not number.isdigit() or len(number) > 3:
        return None
    return identity, int(number) - 1


def page_link(stop: Stop, where: str, label: str, icon: str, **options: bool | str) -> None:
    """A link to the stop, in this session."""
    st.page_link(
        pages.page(stop.page, pages.titles()[stop.page]),
        label=label,
        icon=f":material/{icon}:",
        query_params=address(stop, where),
        **options,  # type: ignore[arg-type]
    )


def go(stop: Stop, where: str) -> None:
    """Leave for the stop."""
    st.switch_page(pages.page(stop.page, pages.titles()[stop.page]), query_params=address(stop, where))


def absolute(page: str, parameters: Mapping[str, str]) -> str:
    """The whole address of a page, as it can be sent to others."""
    query = f"?{urlencode(parameters, quote_via=quote, safe=',')}" if parameters else ""
    return f"{root()}{'' if page == 'home' else page}{query}"


def root() -> str:
    """Where the app lies, as the learner's browser sees it, with a slash at the end; behind a proxy too.

    Pages lie side by side, so this is what stands before the last part of the address, whichever page that names: after
    a click it is still the page before. ``st.context.url`` is no help: it takes the name of a page off the end of the
    address's text ("lora" off "/qlora") and puts on that of another.
    """
    context = get_script_run_ctx()
    seen = context.context_info.url if context is not None and context.context_info is not None else ""
    return urljoin(seen, ".") if seen else "/"


def filled(stop: Stop, text: str, identity: str) -> str:
    """A stop's words as markdown. Those of the lab's own path may be formatted and hold computed figures; a teacher's
    are shown as they were typed, so that a link from elsewhere cannot bring in pictures or other addresses."""
    if identity != FIRST:
        return "  \n".join(plain(line) for line in text.splitlines())
    if not has_figures(text):
        return text
    return f"{fill(stop, text)} {figures.badge(Source.COUNTED)}"
