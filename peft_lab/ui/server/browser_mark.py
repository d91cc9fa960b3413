"""A random mark by which a browser's runs are found again after a reload, when Streamlit has begun another session.

The first session of a browser makes the mark and a small component keeps it as a cookie; later sessions are told it.
"""

from __future__ import annotations

import re
import secrets

import streamlit as st

COOKIE = "peft_lab_browser"
_KEPT = "browser-mark"
_FORM = re.compile(r"[A-Za-z0-9_-]{16,64}")
_YEAR = 365 * 24 * 3600

# A tab that was opened earlier may have kept one meanwhile.
JS = f"""
export default function ({{ data }}) {{
  if (document.cookie.split("; ").some((one) => one.startsWith("{COOKIE}="))) return;
  document.cookie = `{COOKIE}=${{data.mark}}; path=/; max-age={_YEAR}; SameSite=Strict`;
}}
"""

_mount = st.components.v2.component("peft_browser_mark", html="<span hidden></span>", js=JS)


def _sent() -> str | None:
    found = str(st.context.cookies.get(COOKIE, ""))
    return found if _FORM.fullmatch(found) else None


def browser_mark() -> str:
    """This browser's mark, the same for all its tabs and sessions."""
    mark: str = st.session_state.setdefault(_KEPT, _sent() or secrets.token_urlsafe(16))
    return mark


def keep_mark() -> None:
    """Let the browser keep the mark. Drawn last on a page, as it shows nothing."""
    if _sent() is None:
        _mount(key="browser-mark", data={"mark": browser_mark()})
