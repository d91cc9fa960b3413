"""A learner's rows token by token: what is learned, what is only read, and what the format costs."""

from __future__ import annotations

import html
from collections.abc import Iterable

import streamlit as st

from peft_lab import palette
from peft_lab.errors import PeftLabError
from peft_lab.runs import preview
from peft_lab.runs.preview import Preview, Token
from peft_lab.runs.preview_words import heading, headline, notes, visible
from peft_lab.ui.components import figures
from peft_lab.ui.components.waiting import come_back, is_open
from peft_lab.ui.foreign import plain
from peft_lab.units import Source

NEW_LINE = "\n"  # as a token of its own: what follows stands on a new line
_CSS = f"""<style>
.tokens {{ font-size: 0.8rem; line-height: 1.9; overflow-wrap: anywhere;
  color: {palette.INK.css}; max-height: 20rem; overflow: auto; }}
.tokens span, .tokens mark {{ font-family: monospace; padding: 0.1rem 0.12rem; margin-right: 1px;
  border-radius: 3px; color: {palette.INK.css};
  background: {palette.FROZEN.css}; white-space: pre-wrap; }}
.tokens mark {{ background: {palette.TRAINED_LIGHT.css}; border-bottom: 2px solid {palette.TRAINED.css}; }}
.tokens .placed {{ outline: 1px dashed {palette.INK.css}; outline-offset: -1px; }}
</style>"""


def tokens_of(model: str, path: str, max_length: int) -> None:
    """The preview of a checked file, under the upload; says that it is being made until it is there."""
    try:
        asked = preview.ask(model, path, max_length)
        if is_open(asked):
            st.caption("Reading the rows as tokens")
            come_back([asked])
            return
        found = asked.result()
    except PeftLabError as error:
        st.markdown(f":red[:material/error: {plain(error)}]")
        return
    if isinstance(found, str):
        st.markdown(f":red[:material/error: {plain(found)}]")
        return
    with st.container(border=True):
        _shown(found)


def _shown(found: Preview) -> None:
    st.markdown(f"**What is learned** {figures.badge(Source.COUNTED)}")
    st.markdown(plain(headline(found)))
    for said in notes(found):
        st.caption(plain(said))
    key = (Token("only read", False, False), Token("learned", True, False), Token("a mark", False, True))
    rows = "".join(
        f"<p><strong>{html.escape(heading(row))}</strong><br>{_spans(row.tokens)}</p>" for row in found.sample
    )
    st.html(f'{_CSS}<p class="tokens">{_spans(key)}</p><div class="tokens" tabindex="0">{rows}</div>')


def _spans(tokens: Iterable[Token]) -> str:
    return "".join(_span(token) for token in tokens)


def _span(token: Token) -> str:
    tag = "mark" if token.trained else "span"
    placed = ' class="placed"' if token.mark else ""
    return f"<{tag}{placed}>{html.escape(visible(token))}</{tag}>{'<br>' if token.text == NEW_LINE else ''}"
